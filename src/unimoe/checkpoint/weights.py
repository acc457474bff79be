"""Weights in and out: load a checkpoint into a model, save a model, convert between dialects.

In:  a directory of any dialect, or a GGUF file.  Out: an `OmniModel` whose parameters were filled
one stored tensor at a time, straight on their device; or a new directory.
Peak memory of loading is the model plus one tensor; of converting, one parameter.
"""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from unimoe.checkpoint.dialects import own_json
from unimoe.checkpoint.directory import (
    CONFIG_NAME,
    Checkpoint,
    open_checkpoint,
    slots_in,
)
from unimoe.checkpoint.gguf import GGUFFile
from unimoe.checkpoint.placement import available_memory, device_of, plan_devices, spread
from unimoe.checkpoint.released import released_json
from unimoe.checkpoint.slots import Slot, TensorReport
from unimoe.checkpoint.storage import INDEX_NAME, TensorSpec, write_shards
from unimoe.config import OmniConfig
from unimoe.errors import CheckpointError, ConfigError
from unimoe.model.allocate import allocate, meta_model, parameter_shapes
from unimoe.model.omni import OmniModel

log = logging.getLogger(__name__)

MAX_SHARD_BYTES = 5 * 1024**3
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Types a model can be loaded in, by name."""
_COMPANIONS = (".json", ".jinja", ".txt", ".model", ".md")


def load_model(
    directory: str | Path,
    *,
    dtype: torch.dtype | str = "auto",
    device: str | torch.device | None = None,
    device_map: Mapping[str, str] | Literal["auto"] | None = None,
) -> OmniModel:
    """The model of a checkpoint, complete, in evaluation mode.

    Args:
        directory: of any dialect, or a GGUF file.
        dtype: of the whole model: "float32", "bfloat16", "float16"; or "auto": the one that
            `config.json` declares (`torch_dtype` or `dtype`), else the one that most bytes of the
            weights are stored in.
        device: the one device of the whole model; None with no `device_map`: the CPU.
        device_map: module names -> device, the longest name that begins a parameter's name wins,
            "" stands for all others; or "auto": spread over the accelerators by their memory.

    Raises:
        CheckpointError: a tensor is missing, misshaped or unknown, or the files are unreadable.
            Heads that are known and not loaded yet do not count; the log names them, and
            `tensor_report` lists them. Or: "auto", and a declared type that is none of these.
        ConfigError: an unknown dtype or an impossible device map.
    """
    checkpoint = open_checkpoint(Path(directory))
    checkpoint.require_complete()
    for group, keys in checkpoint.report.left_aside.items():
        log.warning("%s: %s not loaded yet (%d tensors)", directory, group, len(keys))
    wanted = _model_dtype(checkpoint, dtype)
    devices = _device_map(checkpoint.config, wanted, device, device_map)
    model = meta_model(checkpoint.config)
    allocate(
        model,
        lambda name, shape: torch.empty(shape, dtype=wanted, device=device_of(name, devices)),
    )
    _fill(model, checkpoint)
    if len({parameter.device for parameter in model.parameters()}) > 1:
        spread(model)
    return model.eval()


def tensor_report(directory: str | Path) -> TensorReport:
    """How the tensors of a checkpoint fit its model, without reading them."""
    return open_checkpoint(Path(directory)).report


def save_model(
    model: OmniModel,
    directory: str | Path,
    *,
    dialect: Literal["unimoe", "released"] = "unimoe",
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write a model; the same weights give the same bytes.

    Only what the model holds is written: heads left aside when it was loaded are not
    (`convert` carries them along).

    Raises:
        CheckpointError: the directory already holds a checkpoint, or the released dialect cannot
            express this model.
    """
    parameters = dict(model.named_parameters())
    values = _json_in(dialect, model.config, None, next(iter(parameters.values())).dtype)
    slots = slots_in(dialect, model.config)
    specs = {
        key: TensorSpec(parameters[slot.parameter].dtype, slot.shape) for key, slot in slots.items()
    }
    target = new_directory(Path(directory))

    def value_of(key: str) -> Tensor:
        return parameters[slots[key].parameter][slots[key].where]

    write_shards(target, specs, value_of, max_shard_bytes)
    _write_config(target, values)


def convert(
    source: str | Path,
    target: str | Path,
    *,
    dialect: Literal["unimoe", "released"],
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write a checkpoint in another dialect, bit by bit the same weights.

    Tokenizer and other small files come along, as do heads that are not loaded yet and, inside
    `config.json`, the released fields we do not interpret: there and back is where it began.

    Raises:
        CheckpointError: as `load_model` and `save_model`.
    """
    checkpoint = open_checkpoint(Path(source))
    checkpoint.require_complete()
    dtypes = _parameter_dtypes(checkpoint)
    values = _json_in(dialect, checkpoint.config, checkpoint.origin, _commonest_dtype(checkpoint))
    slots = slots_in(dialect, checkpoint.config)
    aside = [key for keys in checkpoint.report.left_aside.values() for key in keys]
    specs = {key: TensorSpec(dtypes[slot.parameter], slot.shape) for key, slot in slots.items()} | {
        key: TensorSpec(checkpoint.tensors.read(key).dtype, checkpoint.tensors.shapes[key])
        for key in aside
    }
    parameters = _StoredParameters(checkpoint, dtypes)

    def value_of(key: str) -> Tensor:
        if key not in slots:
            return checkpoint.tensors.read(key)
        return parameters.read(slots[key].parameter)[slots[key].where]

    directory = new_directory(Path(target))
    copy_companions(checkpoint, directory)
    write_shards(directory, specs, value_of, max_shard_bytes)
    _write_config(directory, values)


class _StoredParameters:
    """Parameters put together from a checkpoint, one at a time; the last one is kept."""

    def __init__(self, checkpoint: Checkpoint, dtypes: Mapping[str, torch.dtype]) -> None:
        self._tensors = checkpoint.tensors
        self._dtypes = dtypes
        self._parts: dict[str, list[tuple[str, Slot]]] = {}
        for key, slot in checkpoint.slots.items():
            self._parts.setdefault(slot.parameter, []).append((key, slot))
        self._shapes = parameter_shapes(checkpoint.config)
        self._last: tuple[str, Tensor] | None = None

    def read(self, name: str) -> Tensor:
        """The whole parameter."""
        if self._last is None or self._last[0] != name:
            self._last = None  # let go of the old one before the new one is made
            self._last = (name, self._assembled(name))
        return self._last[1]

    def _assembled(self, name: str) -> Tensor:
        parts = self._parts[name]
        if len(parts) == 1 and parts[0][1].where == ():
            return self._tensors.read(parts[0][0])
        whole = torch.empty(self._shapes[name], dtype=self._dtypes[name])
        for key, slot in parts:
            whole[slot.where].copy_(self._tensors.read(key))
        return whole


def _model_dtype(checkpoint: Checkpoint, dtype: torch.dtype | str) -> torch.dtype:
    """One type for the whole model: forward multiplies no matrices of different types."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype in DTYPES:
        return DTYPES[dtype]
    names = ", ".join(map(repr, DTYPES))
    if dtype != "auto":
        raise ConfigError(f"dtype is {dtype!r}; need 'auto', {names}")
    declared = checkpoint.declared_dtype
    if declared is None:
        return _commonest_dtype(checkpoint)
    if declared not in DTYPES:
        raise CheckpointError(
            f"{checkpoint.path / CONFIG_NAME}: declares weights of type {declared!r}; readable as "
            f"declared are {names}. Name one of these as dtype"
        )
    return DTYPES[declared]


def _commonest_dtype(checkpoint: Checkpoint) -> torch.dtype:
    """What most bytes are stored in; of equals the wider."""
    num_bytes: Counter[torch.dtype] = Counter()
    for key, slot in checkpoint.slots.items():
        stored = checkpoint.tensors.dtypes[key]
        num_bytes[stored] += TensorSpec(stored, slot.shape).num_bytes
    return max(num_bytes, key=lambda dtype: (num_bytes[dtype], dtype.itemsize))


def _parameter_dtypes(checkpoint: Checkpoint) -> dict[str, torch.dtype]:
    """Every parameter's as stored; parts stored in different types take the wider."""
    dtypes: dict[str, torch.dtype] = {}
    for key, slot in checkpoint.slots.items():
        stored = checkpoint.tensors.dtypes[key]
        before = dtypes.get(slot.parameter, stored)
        dtypes[slot.parameter] = torch.promote_types(before, stored)
    return dtypes


def _device_map(
    config: OmniConfig,
    dtype: torch.dtype,
    device: str | torch.device | None,
    device_map: Mapping[str, str] | Literal["auto"] | None,
) -> Mapping[str, str]:
    if device_map is None:
        return {"": str(device or "cpu")}
    if device is not None:
        raise ConfigError("device and device_map are both given; need one of them")
    if device_map != "auto":
        return device_map
    memory = available_memory()
    return plan_devices(config, memory, dtype.itemsize) if memory else {"": "cpu"}


@torch.no_grad()
def _fill(model: OmniModel, checkpoint: Checkpoint) -> None:
    parameters = dict(model.named_parameters())
    for key, slot in checkpoint.slots.items():
        parameters[slot.parameter][slot.where].copy_(checkpoint.tensors.read(key))


def _json_in(
    dialect: Literal["unimoe", "released"],
    config: OmniConfig,
    origin: Mapping[str, Any] | None,
    dtype: torch.dtype,
) -> dict[str, Any]:
    if dialect == "unimoe":
        return own_json(config, origin)
    return released_json(config, origin, str(dtype).removeprefix("torch."))


def new_directory(directory: Path) -> Path:
    """Make the directory, unless it holds a checkpoint already.

    Raises:
        CheckpointError: it does.
    """
    directory.mkdir(parents=True, exist_ok=True)
    present = [*directory.glob("*.safetensors"), *directory.glob(CONFIG_NAME)]
    if present:
        raise CheckpointError(
            f"{directory} already holds {present[0].name}; name an empty directory, or remove it"
        )
    return directory


def _write_config(directory: Path, values: Mapping[str, Any]) -> None:
    """Written last: a directory whose weights were cut short has no configuration to load by."""
    (directory / CONFIG_NAME).write_text(json.dumps(values, indent=2) + "\n", "utf-8")


def copy_companions(checkpoint: Checkpoint, directory: Path) -> None:
    """Tokenizer, chat template, generation settings, model card, licence."""
    if isinstance(checkpoint.tensors, GGUFFile):
        checkpoint.tensors.write_tokenizer(directory)
        return
    for path in sorted(checkpoint.path.iterdir()):
        is_ours = path.name in (CONFIG_NAME, INDEX_NAME)
        is_small = path.suffix in _COMPANIONS or path.name.startswith(("LICENSE", "NOTICE"))
        if path.is_file() and is_small and not is_ours:
            shutil.copyfile(path, directory / path.name)
