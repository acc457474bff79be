"""The recorded talker as a directory, and a tiny one with random weights."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from unimoe.config import TalkerConfig
from unimoe.heads.moe_tts import MoETTS

FOLDER = Path(__file__).parents[1] / "golden" / "talker"

TINY = TalkerConfig(
    text_vocab_size=20,
    text_width=6,
    num_codes=12,
    hidden_size=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    expert_width=10,
)


def recorded(name: str) -> dict[str, Tensor]:
    """Inputs and expected values of one case."""
    return load_file(FOLDER / f"{name}.safetensors")


def released_directory(directory: Path) -> Path:
    """The recorded weights under their released names, with their configuration."""
    shutil.copyfile(FOLDER / "talker.safetensors", directory / "model.safetensors")
    config = json.loads((FOLDER / "talker.json").read_text())["config"]
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def tiny_talker(config: TalkerConfig = TINY) -> MoETTS:
    """The same random weights every time, in evaluation mode."""
    torch.manual_seed(7)
    return MoETTS(config).eval()
