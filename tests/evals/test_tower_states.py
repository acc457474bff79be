"""States kept by an evaluation are those of the model, whatever its tokens read."""

import contextlib
import dataclasses

import torch
from PIL import Image

from unimoe.config import VisionConfig
from unimoe.evals.tower_states import TowerEye, TowerStates
from unimoe.model.omni import OmniModel
from unimoe.recipes.tiny import tiny_config
from unimoe.train.store import PreparedFolder

VISION = VisionConfig(
    tower="dinov2",
    hidden_size=32,
    num_layers=1,
    num_heads=4,
    ffn_width=64,
    image_side=16,
    patch_side=4,
    pool_side=2,
    aligner_layers=1,
    reads_class_state=True,
    colour_levels=2,
    max_tile_grid=(1, 1),
)


def model_with_class_state() -> OmniModel:
    return OmniModel(dataclasses.replace(tiny_config(), audio=None, vision=VISION)).eval()


def test_states_with_a_class_state_are_kept(tmp_path) -> None:
    model = model_with_class_state()
    tiles = torch.randn(2, 3, 16, 16)
    folder = PreparedFolder(tmp_path, model.config, "towers", "samples")
    with contextlib.closing(TowerStates(model, folder)) as states:
        kept = states.vision(tiles)
    torch.testing.assert_close(kept, TowerStates(model).vision(tiles), rtol=0, atol=2e-3)


def test_a_probe_sees_patches_alone(tmp_path) -> None:
    model = model_with_class_state()
    path = tmp_path / "picture.png"
    Image.linear_gradient("L").convert("RGB").save(path)
    seen: list[torch.Tensor] = []
    states = TowerStates(model)
    whole = states.vision
    states.vision = lambda tiles: seen.append(whole(tiles)) or seen[-1]  # type: ignore[method-assign]
    features = TowerEye(states, model.config).features([path])
    assert features.shape == (1, 2 * 32)
    torch.testing.assert_close(features[0, :32], seen[0][0, :-1, :32].mean(0))
