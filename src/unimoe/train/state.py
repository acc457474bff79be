"""States of a run: everything that decides its next step, in one file that is whole or not there.

In:  a learner, batches, a step.  Out: `state-00000120.safetensors`: learned tensors, moments, the
average, torch's generator; in its header the step and the position in the data, as JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from unimoe.errors import TrainingError

_RANDOM = "random_generator"
_HEADER = "unimoe_state"


class SavedState(NamedTuple):
    """A state as it was read."""

    step: int
    """Steps that were done."""
    tensors: dict[str, Tensor]
    random_generator: Tensor
    progress: dict[str, Any]
    """Whatever the loop put there: position in the data, history of the guard."""


def state_paths(folder: Path) -> list[Path]:
    """Whole states of a run, oldest first."""
    return sorted(folder.glob("state-*.safetensors"))


def save_state(
    folder: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    progress: Mapping[str, Any],
    *,
    keep: int,
) -> Path:
    """Write a state, then remove all but the newest `keep`.

    Raises:
        TrainingError: the disk does not take it.
    """
    path = folder / f"state-{step:08}.safetensors"
    header = {_HEADER: json.dumps({"step": step, "progress": progress})}
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    whole[_RANDOM] = torch.get_rng_state()
    try:
        write_whole(whole, path, header)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{path}: the state cannot be written ({error}); make room") from error
    for old in state_paths(folder)[:-keep]:
        old.unlink()
    return path


def load_state(path: Path) -> SavedState:
    """Read a state.

    Raises:
        TrainingError: it is damaged or none of ours.
    """
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            generator = tensors.pop(_RANDOM)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise TrainingError(f"{path}: no state of a run ({error}); remove it") from error
    return SavedState(header["step"], tensors, generator, header["progress"])


def write_whole(tensors: Mapping[str, Tensor], path: Path, header: dict[str, str]) -> None:
    """Write tensors so that a kill at any moment leaves the old file or the new one."""
    partial = path.with_suffix(".partial")
    save_file(dict(tensors), partial, metadata=header)
    partial.chmod(0o644)  # safetensors makes it for the owner alone
    with partial.open("rb+") as stream:
        os.fsync(stream.fileno())
    partial.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
