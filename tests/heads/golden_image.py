"""The recorded image head: its weights as checkpoints, and its cases."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unimoe.checkpoint.storage import SafetensorsFiles
from unimoe.config import DiTConfig, GuidanceConfig
from unimoe.heads.dit import Condition

FOLDER = Path(__file__).parents[1] / "golden" / "image_generation"
KEPT = json.loads((FOLDER / "dit.json").read_text())["config"]["sample_tokens"]


def tensors_of(*names: str) -> dict[str, Tensor]:
    """Tensors of some golden files together."""
    return {key: value for name in names for key, value in tensors_in(name).items()}


def tensors_in(name: str) -> dict[str, Tensor]:
    return load_file(FOLDER / f"{name}.safetensors")


def settings_of(name: str) -> dict[str, object]:
    return json.loads((FOLDER / f"{name}.json").read_text())


def checkpoint_of(tensors: dict[str, Tensor], directory: Path) -> SafetensorsFiles:
    """A checkpoint of these tensors, in a directory that may exist."""
    directory.mkdir(exist_ok=True)
    save_file(tensors, directory / "model.safetensors")
    return SafetensorsFiles(directory)


def condition_of(case: dict[str, Tensor]) -> Condition:
    """The recorded condition; the training cases leave out the batch of the source."""
    source = case["input_x"]
    return Condition(
        source=source if source.dim() == 4 else source[None],
        image=case["input_clip_x"],
        prompt=case["prompt_feats"],
        prompt_mask=case["prompt_mask"].bool(),
        task=case["prompt_pooled_feats"],
    )


def guidance_of(name: str) -> GuidanceConfig:
    settings = settings_of(name)
    return GuidanceConfig(
        num_steps=settings.get("num_steps", 2) - 1,
        text_scale=settings["text_cfg_scale"],
        image_scale=settings["image_cfg_scale"],
        base_tokens=settings["base_seqlen"],
    )


def recorded_noise(case: dict[str, Tensor]) -> Tensor | None:
    """Gumbel noise [steps, layers, rows, 1, tokens], rows being those with a source image."""
    gumbel = case.get("draw.gumbel")
    return None if gumbel is None else gumbel.unsqueeze(3)


def random_condition(batch: int, *, generator: torch.Generator) -> Condition:
    """Of the golden network's widths, for images of 8 x 12 latents."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    return Condition(
        source=normal(4, 8, 12),
        image=normal(30, 40),
        prompt=normal(5, 24),
        prompt_mask=torch.ones(batch, 5, dtype=torch.bool),
        task=normal(20),
    )


def small_config() -> DiTConfig:
    """The golden network's sizes with a single layer."""
    return DiTConfig(
        hidden_size=48,
        num_layers=1,
        num_heads=4,
        num_kv_heads=2,
        ffn_width=128,
        condition_width=40,
        prompt_width=24,
        task_width=20,
        image_width=40,
        num_kept_tokens=10,
    )
