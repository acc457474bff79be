"""Settings of the whole test run."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Torch's first call alone exceeds hypothesis' deadline; derandomised runs can be repeated.
settings.register_profile("unimoe", deadline=None, derandomize=True)
settings.load_profile("unimoe")
# Workers share the cores.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny random checkpoint; nobody writes into it."""
    from unimoe.recipes.tiny import build_tiny

    directory = tmp_path_factory.mktemp("tiny") / "checkpoint"
    build_tiny(directory)
    return directory
