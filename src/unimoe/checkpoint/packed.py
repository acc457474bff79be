"""Learned tensors in a quarter of their bytes, for a repository: int8 rows with a scale each.

In:  tensors by name, float.  Out: a safetensors file: vectors in float32, everything of two and
more dimensions as int8 `name` beside float32 `name:scale` [..., 1], one scale a row.
A value comes back within half a step of its row's largest, 1/254 of it.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unimoe.errors import CheckpointError

_STEPS = 127
_SCALE = ":scale"


def write_packed(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write them; the same values give the same bytes.

    Raises:
        CheckpointError: a value is not finite.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().float().cpu()
        if not bool(values.isfinite().all()):
            raise CheckpointError(f"{name} holds values that are no numbers; it was not written")
        if values.dim() < 2:
            stored[name] = values.contiguous()
            continue
        scale = values.abs().amax(-1, keepdim=True) / _STEPS
        steps = torch.where(scale > 0, values / scale.clamp_min(1e-30), 0.0)
        stored[name] = steps.round().to(torch.int8).contiguous()
        stored[name + _SCALE] = scale.contiguous()
    save_file(stored, path)


def read_packed(path: Path) -> dict[str, Tensor]:
    """The tensors in float32.

    Raises:
        CheckpointError: no such file, damaged, or a matrix without its scales.
    """
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    found = {}
    for name, values in stored.items():
        if name.endswith(_SCALE):
            continue
        if values.dtype != torch.int8:
            found[name] = values
        elif name + _SCALE in stored:
            found[name] = values * stored[name + _SCALE]
        else:
            raise CheckpointError(f"{path}: {name} comes without its scales; it is cut short")
    return found
