"""How the tiny model draws: squares of 16 pixels, in the colour that is named.

The core is the tiny model as it is made: random, and frozen as that of the real one is frozen.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from unimoe.checkpoint.weights import load_model
from unimoe.config import DiTConfig, PainterConfig, VAEConfig
from unimoe.data.card import DataCard
from unimoe.data.manifest import Manifest, media_file, read_manifest
from unimoe.data.sample import OmniSample, Turn
from unimoe.data.splits import SPLITS
from unimoe.data.writer import DatasetWriter
from unimoe.recipes.drawing import DrawingRecipe, Reader
from unimoe.recipes.tiny import build_tiny
from unimoe.tokens.vocabulary import Vocabulary
from unimoe.train.paintings import read_pictures
from unimoe.train.plan import HeadPlan

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220)}
TASK = "squares"
_SIDE = 16
_SQUARES = {"train": 24, "validation": 3, "test": 3}

PAINTER_OF_TINY = PainterConfig(
    vae=VAEConfig(latent_channels=4, widths=(8, 8), shuffled_side=2, norm_groups=2),
    dit=DiTConfig(
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        num_kv_heads=2,
        ffn_width=64,
        condition_width=32,
        prompt_width=32,
        task_width=32,
        image_width=8,
        latent_channels=4,
        num_kept_tokens=1,
    ),
    core_width=64,
    picture_side=_SIDE,
    num_image_states=4,
    draft_widths=(16, 32),
)


def tiny_drawing() -> DrawingRecipe:
    """Autoencoder, projector and DiT at toy size."""
    return DrawingRecipe(
        config=PAINTER_OF_TINY,
        reader=_reader,
        former_core=lambda runs: None,
        pictures=_pictures,
        tasks=_squares,
        prepared=lambda runs: runs / "prepared" / "drawing",
        shares={TASK: 1.0},
        drafted=[TASK],
        vae_plan=_plan("decoder.*"),
        draft_plan=_plan("draft.*"),
        image_plan=_plan("projector.*", "dit.*"),
    )


def build_squares(folder: Path) -> None:
    """Squares of one colour, asked for by its name."""
    random = np.random.default_rng(0)
    with DatasetWriter(folder, TASK) as writer:
        numbers = iter(range(1000))
        for split in SPLITS:
            for number in (next(numbers) for _ in range(_SQUARES[split])):
                name = list(COLOURS)[number % len(COLOURS)]
                pixels = np.empty((_SIDE, _SIDE, 3), np.uint8)
                pixels[:] = np.clip(np.array(COLOURS[name]) + random.integers(-25, 26, 3), 0, 255)
                path = writer.image(f"square {number}", Image.fromarray(pixels))
                words = (Turn("user", f"Draw {name}."), Turn("assistant", "<image>"))
                sample = OmniSample(
                    id=f"square {number}", conversations=words, images=(path,), task=TASK
                )
                writer.add(split, sample)
        made = "Made by the tiny recipe"
        writer.close(
            DataCard(subject=TASK, source=made, licence="Apache-2.0", split_rule="by number")
        )


def _plan(*learned: str) -> HeadPlan:
    return HeadPlan(
        steps=20,
        batch_size=8,
        learns=dict.fromkeys(learned, 1.0),
        lr=3e-3,
        warmup_steps=3,
        ema_decay=0.9,
        save_every=10,
        evaluate_every=10,
    )


def _squares(runs: Path, split: str) -> Manifest:
    folder = runs / "data" / TASK
    if not (folder / "dataset.json").exists():
        build_squares(folder)
    return read_manifest(folder / f"{split}.jsonl")


def _pictures(runs: Path, split: str) -> UInt8[Tensor, "pictures 3 side side"]:
    manifest = _squares(runs, split)
    paths = [path for number in range(len(manifest)) for path in manifest[number].images]
    pictures = read_pictures([media_file(manifest.folder, path) for path in paths], _SIDE)
    return (255 * pictures).round().to(torch.uint8)


def _reader(runs: Path) -> Reader:
    directory = runs / "random"
    if not (directory / "config.json").exists():
        build_tiny(directory)
    model = load_model(directory).eval()
    return Reader(model, Vocabulary.from_directory(directory, model.config.special_tokens))
