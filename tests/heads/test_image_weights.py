"""Loading the image head from its released names: exact, and strict about every fault."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.heads.golden_image import (
    KEPT,
    checkpoint_of,
    settings_of,
    tensors_in,
    tensors_of,
)
from unimoe.config import DiTConfig, TaskDiTConfig
from unimoe.errors import CheckpointError
from unimoe.heads.image_weights import dit_config, image_slots, load_dit, load_task_dit
from unimoe.heads.task_dit import TaskDiT

LAYER = "image_generator.model.layers.1."


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    """The whole head, without what the golden files hold beside weights."""
    both = tensors_of("dit", "projectors")
    return {key: value for key, value in both.items() if not key.startswith(("in.", "expected."))}


def test_every_stored_tensor_lies_bit_by_bit_in_its_slot(
    tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    head = load_task_dit(checkpoint_of(tensors, tmp_path), num_kept_tokens=KEPT)
    parameters = dict(head.named_parameters())
    slots = image_slots({name: tuple(part.shape) for name, part in parameters.items()})
    assert slots.keys() == tensors.keys()
    assert sum(part.numel() for part in parameters.values()) == sum(
        value.numel() for value in tensors.values()
    )
    for key, slot in slots.items():
        assert torch.equal(parameters[slot.parameter][slot.where], tensors[key]), key


@pytest.mark.parametrize("name", ["dit", "dit_full_heads"])
def test_sizes_are_read_off_the_shapes(name: str, tmp_path: Path) -> None:
    told = settings_of(name)["config"]
    source = checkpoint_of(tensors_in(name), tmp_path)
    assert dit_config(source.shapes, num_kept_tokens=KEPT) == DiTConfig(
        hidden_size=told["dim"],
        num_layers=told["n_layers"],
        num_heads=told["n_heads"],
        num_kv_heads=told["n_kv_heads"],
        ffn_width=128,
        condition_width=told["condition_width"],
        prompt_width=told["prompt_feat_dim"],
        task_width=told["prompt_clip_feat_dim"],
        image_width=told["clip_width"],
        latent_channels=told["in_channels"],
        patch_side=told["patch_size"],
        num_kept_tokens=told["sample_tokens"],
        norm_eps=told["norm_eps"],
    )


def test_published_sizes_have_the_published_number_of_parameters() -> None:
    dit = DiTConfig(
        hidden_size=2304,
        num_layers=24,
        num_heads=32,
        num_kv_heads=8,
        ffn_width=6144,
        condition_width=1024,
        prompt_width=2048,
        task_width=768,
        image_width=1024,
    )
    with torch.device("meta"):
        head = TaskDiT(TaskDiTConfig(dit=dit, core_width=3584))

    def billions(module: torch.nn.Module) -> float:
        return sum(part.numel() for part in module.parameters()) / 1e9

    assert round(billions(head.dit), 3) == 2.011
    assert round(billions(head) - billions(head.dit), 3) == 0.548


def test_what_lies_beside_the_head_is_not_looked_at(
    tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    beside = {"model.norm.weight": torch.ones(3), "image_generator.vae.encoder.bias": torch.ones(3)}
    load_task_dit(checkpoint_of(tensors | beside, tmp_path), num_kept_tokens=KEPT)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (f"{LAYER}attention.wq.weight", None, "1 missing"),
        ("task_hidden_fcs.0.tfm.decoder.norm.bias", None, "1 missing"),
        ("image_generator.model.pad_token", None, "1 missing"),
        (f"{LAYER}attention.extra.weight", torch.ones(2), "1 unexpected"),
        ("visual_hidden_fcs.1.model.bias", torch.ones(2), "1 unexpected"),
        (f"{LAYER}feed_forward.w3.weight", torch.ones(64, 48), r"need \[128, 48\], found \[64, 48"),
        ("image_hidden_fcs.0.out_fc.bias", torch.ones(9), r"need \[24\], found \[9\]"),
        (f"{LAYER}attention.gate", torch.ones(4, dtype=torch.int64), "need a floating-point type"),
        ("image_generator.model.layers.9.attention.gate", torch.ones(4), "41 missing"),
    ],
)
def test_head_with_a_fault_is_refused(
    tensors: dict[str, Tensor], tmp_path: Path, key: str, value: Tensor | None, message: str
) -> None:
    tensors.pop(key, None)
    if value is not None:
        tensors[key] = value
    with pytest.raises(CheckpointError, match=message):
        load_task_dit(checkpoint_of(tensors, tmp_path), num_kept_tokens=KEPT)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image_generator.model.x_embedder.weight", None, "x_embedder.weight is missing"),
        ("image_hidden_fcs.0.query_embs", None, "query_embs is missing"),
        ("image_hidden_fcs.0.query_embs", torch.ones(3), r"is \[3\]; need 2 axes"),
        ("image_generator.model.layers.0.attention.gate", torch.ones(0), "none empty"),
        ("image_generator.model.layers.0.attention.gate", torch.ones(5), "diffusion transformer"),
        ("image_hidden_fcs.0.in_fc.weight", torch.ones(30, 64), "projectors"),
    ],
)
def test_sizes_that_cannot_be_read_are_told(
    tensors: dict[str, Tensor], tmp_path: Path, key: str, value: Tensor | None, message: str
) -> None:
    del tensors[key]
    if value is not None:
        tensors[key] = value
    with pytest.raises(CheckpointError, match=message):
        load_task_dit(checkpoint_of(tensors, tmp_path), num_kept_tokens=KEPT)


def test_dit_alone_needs_no_projectors_and_refuses_unknown_tensors(tmp_path: Path) -> None:
    tensors = tensors_in("dit")
    dit = load_dit(checkpoint_of(tensors, tmp_path / "good"), num_kept_tokens=KEPT)
    assert dit.config.num_layers == 3
    assert not dit.training
    tensors["image_generator.model.norm.weight"] = torch.ones(2)
    with pytest.raises(CheckpointError, match="1 unexpected"):
        load_dit(checkpoint_of(tensors, tmp_path / "bad"), num_kept_tokens=KEPT)


def test_dtype_is_that_of_the_whole_head(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    source = checkpoint_of(tensors, tmp_path)
    head = load_task_dit(source, dtype=torch.bfloat16, num_kept_tokens=KEPT)
    assert {part.dtype for part in head.parameters()} == {torch.bfloat16}


def test_parameter_without_a_released_name_is_a_bug() -> None:
    with pytest.raises(KeyError, match="no released name for novel"):
        image_slots({"dit.novel.weight": (3,)})
