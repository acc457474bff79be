"""The recorded codec as a directory, and its configuration."""

import shutil
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from unimoe.config import CodecConfig

FOLDER = Path(__file__).parents[1] / "golden" / "wavtokenizer"

RECORDED = CodecConfig(
    num_codes=64,
    code_width=16,
    num_filters=3,
    strides=(5, 2, 2, 3),
    hidden_size=64,
    ffn_width=96,
    num_layers=3,
    window_samples=240,
)


def recorded(name: str) -> dict[str, Tensor]:
    """Inputs and expected values of one case."""
    return load_file(FOLDER / f"{name}.safetensors")


def codec_directory(directory: Path) -> Path:
    """The recorded weights, under their upstream names."""
    shutil.copyfile(FOLDER / "wavtokenizer.safetensors", directory / "model.safetensors")
    return directory
