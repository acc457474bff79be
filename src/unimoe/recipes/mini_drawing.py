"""How mini draws: 96 pixels a side, 36 tokens, a DiT of 8 layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from unimoe.checkpoint.mini import mini_directory, mini_model
from unimoe.checkpoint.weights import load_model
from unimoe.config import DiTConfig, PainterConfig, VAEConfig
from unimoe.data.manifest import media_file, read_manifest
from unimoe.model.omni import OmniModel
from unimoe.nn.precision import product_dtype
from unimoe.parts import cache_directory
from unimoe.recipes.drawing import DrawingRecipe, Reader
from unimoe.tokens.vocabulary import Vocabulary
from unimoe.train.paintings import read_pictures
from unimoe.train.plan import HeadPlan

_PICTURES = {"naming": 2000, "drawing_tasks": 4000}
"""Of every set, so many training pictures at most, for the decoder."""
_HELD_OUT_PICTURES = 64
"""Of `naming`: drawings of two styles never seen."""

SHARES = {
    "names": 3.0,
    "more_names": 1.0,
    "thoughts": 0.6,
    "scenes": 5.0,
    "style": 0.8,
    "recolour": 0.6,
    "remove": 0.3,
    "add": 0.5,
    "replace": 0.8,
    "edges": 0.6,
    "depth": 1.5,
    "derain": 0.4,
    "denoise": 1.2,
    "deblur": 2.2,
    "enlarge": 3.0,
}
"""What words alone say is hard to learn; of repairs, what was lost in size, the least is rain."""
_DRAFTED = ("names", "more_names", "thoughts", "scenes", "depth")
PAINTER_OF_MINI = PainterConfig(
    vae=VAEConfig(),
    dit=DiTConfig(
        hidden_size=256,
        num_layers=8,
        num_heads=4,
        num_kv_heads=4,
        ffn_width=704,
        condition_width=256,
        prompt_width=256,
        task_width=256,
        image_width=16,
        latent_channels=24,
        num_kept_tokens=1,
    ),
    core_width=576,
)


def mini_drawing() -> DrawingRecipe:
    """Autoencoder, projector and DiT of mini."""
    decoder = HeadPlan(
        steps=3000,
        batch_size=16,
        learns={"decoder.*": 1.0},
        lr=1.5e-3,
        warmup_steps=50,
        final_lr_fraction=0.05,
        ema_decay=0.99,
        save_every=50,
        evaluate_every=200,
    )
    return DrawingRecipe(
        config=PAINTER_OF_MINI,
        reader=lambda runs: _reader(),
        former_core=_former_core,
        pictures=lambda runs, split: _pictures(split),
        tasks=lambda runs, split: read_manifest(_sets() / "drawing_tasks" / f"{split}.jsonl"),
        prepared=lambda runs: cache_directory() / "prepared" / "drawing",
        shares=SHARES,
        drafted=_DRAFTED,
        vae_plan=decoder,
        draft_plan=replace(
            decoder, steps=2000, batch_size=256, learns={"draft.*": 1.0}, lr=1e-3, save_every=250
        ),
        image_plan=replace(
            decoder,
            batch_size=32,
            learns={"projector.*": 1.0, "dit.*": 1.0},
            lr=1e-3,
            ema_decay=0.995,
        ),
    )


def _reader() -> Reader:
    directory = mini_directory()
    # Rows of prompts are many: half precision reads them in half the time, where it is fast.
    model = load_model(directory, dtype=product_dtype("cpu")).eval()
    return Reader(model, Vocabulary.from_directory(directory, model.config.special_tokens))


def _former_core(runs: Path) -> OmniModel | None:
    """The mixture of a former export, which lies beside the painter that was taught on it.

    Raises:
        CheckpointError: it is no export of a mini.
    """
    path = runs / "former" / "trained.safetensors"
    if not path.exists():
        return None
    # As mini was put together of them: states of prompts are found again by its weights.
    return mini_model(path).to(product_dtype("cpu")).eval()


def _pictures(split: str) -> UInt8[Tensor, "pictures 3 side side"]:
    if split != "train":
        return _some_pictures("naming", split, _HELD_OUT_PICTURES)
    return torch.cat([_some_pictures(name, split, most) for name, most in _PICTURES.items()])


def _some_pictures(name: str, split: str, most: int) -> UInt8[Tensor, "pictures 3 side side"]:
    """Pictures of a set that stand for all of it."""
    manifest = read_manifest(_sets() / name / f"{split}.jsonl")
    paths = sorted({path for number in range(len(manifest)) for path in manifest[number].images})
    chosen = paths[:: max(1, len(paths) // most)][:most]
    files = [media_file(manifest.folder, path) for path in chosen]
    pictures = read_pictures(files, PAINTER_OF_MINI.picture_side)
    return (255 * pictures).round().to(torch.uint8)


def _sets() -> Path:
    return cache_directory() / "data" / "mini"
