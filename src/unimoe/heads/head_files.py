"""A head of ours in a checkpoint directory: `NAME.json`, its configuration, and `NAME.safetensors`.

In:  a head, a directory.  Out: the two files, and the head again. All that changes while it learns
is stored, parameters and buffers, matrices as int8 rows (`checkpoint/packed.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from unimoe.checkpoint.packed import read_packed, write_packed
from unimoe.config import from_dict, to_dict
from unimoe.errors import CheckpointError, ConfigError

HeadT = TypeVar("HeadT", bound=nn.Module)


def write_head(head: nn.Module, config: Any, directory: Path, name: str) -> None:
    """Write a head.

    Raises:
        CheckpointError: one of its values is not finite.
    """
    directory.mkdir(parents=True, exist_ok=True)
    write_packed(head.state_dict(), directory / f"{name}.safetensors")
    (directory / f"{name}.json").write_text(json.dumps(to_dict(config), indent=2) + "\n", "utf-8")


def read_head(
    directory: Path, name: str, config_type: type[Any], build: Callable[[Any], HeadT]
) -> HeadT | None:
    """A head as it was written, in float32; None: the directory holds none of this name.

    Raises:
        CheckpointError: one of the two files is missing or damaged, or they do not fit.
    """
    config_path, weights = directory / f"{name}.json", directory / f"{name}.safetensors"
    if not config_path.exists() and not weights.exists():
        return None
    try:
        config = from_dict(config_type, json.loads(config_path.read_text("utf-8")))
    except (OSError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{config_path}: cannot be read ({error})") from error
    tensors = read_packed(weights)
    head = build(config)
    needed = {key: value.shape for key, value in head.state_dict().items()}
    for key in sorted(needed.keys() | tensors.keys()):
        found = tensors[key].shape if key in tensors else None
        if found != needed.get(key):
            raise CheckpointError(
                f"{weights}: {key} is {found and list(found)}; {config_path.name} asks for "
                f"{needed.get(key) and list(needed[key])}. Both must be of the same training"
            )
    head.load_state_dict(tensors)
    return head.eval()
