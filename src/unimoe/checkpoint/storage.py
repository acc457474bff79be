"""Tensors in files: read lazily by key, written one at a time, never through pickle.

In:  a directory of safetensors, one file or shards with an index.  Out: `SafetensorsFiles`, whose
`read(key)` maps one tensor into memory; and `write_shards`, the way back.
A file is checked before any of it is used: length, offsets, names, and that index and shards agree.
Source: safetensors format; Hugging Face shard index.
"""

import json
import mmap
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unimoe.checkpoint.slots import Shape
from unimoe.errors import CheckpointError

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
MAX_JSON_BYTES = 64 * 1024**2

# In the order in which the library lays them out in a file.
_DTYPES = {
    "I64": torch.int64,
    "F64": torch.float64,
    "F32": torch.float32,
    "I32": torch.int32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_LOADABLE = ("F64", "F32", "BF16", "F16")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@runtime_checkable
class TensorSource(Protocol):
    """Something that holds named tensors and gives them one at a time."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Of every tensor."""
        ...

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """What `read` gives, for every tensor that holds floating-point numbers."""
        ...

    @property
    def stored_types(self) -> Mapping[str, str]:
        """Name of the type in the file, of every tensor."""
        ...

    def read(self, key: str) -> Tensor:
        """One tensor, on the CPU, as stored."""
        ...


class TensorSpec(NamedTuple):
    """What a file says of a tensor before its values."""

    dtype: torch.dtype
    shape: Shape

    @property
    def num_bytes(self) -> int:
        """Length of the values."""
        return self.dtype.itemsize * torch.Size(self.shape).numel()


class _Place(NamedTuple):
    path: Path
    start: int
    """First byte of the values, counted from the beginning of the file."""
    end: int


class _Entry(NamedTuple):
    dtype: str
    shape: Shape
    place: _Place


class SafetensorsFiles:
    """The safetensors of a directory, opened and checked; values are read when asked for."""

    def __init__(self, directory: Path) -> None:
        """Open the headers.

        Raises:
            CheckpointError: no safetensors, a damaged file, an index that names files outside of
                the directory or that contradicts them, or a tensor that is stored twice.
        """
        files = _files_of(directory)
        self._places: dict[str, _Place] = {}
        self.shapes: dict[str, Shape] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        self.stored_types: dict[str, str] = {}
        for name, listed in files.items():
            self._add(directory / name, listed)

    def read(self, key: str) -> Tensor:
        """One tensor: a private view of its part of the file, which the system reads as it is used.

        Only that part is mapped: mapping whole files would ask for more memory than there may be.
        """
        place = self._places[key]
        if self.stored_types[key] not in _DTYPES:
            raise CheckpointError(f"{place.path}: {key} is {self.stored_types[key]}, unreadable")
        shape, dtype = self.shapes[key], _DTYPES[self.stored_types[key]]
        if place.start == place.end:
            return torch.empty(shape, dtype=dtype)
        page = place.start - place.start % mmap.ALLOCATIONGRANULARITY
        with place.path.open("rb") as file:
            window = mmap.mmap(
                file.fileno(), place.end - page, access=mmap.ACCESS_COPY, offset=page
            )
        numbers = torch.frombuffer(
            window, dtype=dtype, offset=place.start - page, count=torch.Size(shape).numel()
        )
        return numbers.view(shape)

    def _add(self, path: Path, listed: set[str] | None) -> None:
        header = _header(path)
        keys = list(header)
        _refuse(path, "holds tensors the index places in another file", self._places.keys(), keys)
        if listed is not None:
            _refuse(path, "lacks tensors the index places there", listed - set(keys), listed)
            _refuse(path, "holds tensors the index does not list", set(keys) - listed, keys)
        for key, entry in header.items():
            self._places[key] = entry.place
            self.shapes[key] = entry.shape
            self.stored_types[key] = entry.dtype
            if entry.dtype in _LOADABLE:
                self.dtypes[key] = _DTYPES[entry.dtype]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, strictly: no NaN, no second value for a name, bounded size."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CheckpointError(f"{path}: larger than {MAX_JSON_BYTES} bytes; no such JSON file")
        value = json.loads(
            path.read_text("utf-8"),
            parse_constant=_no_constant,
            object_pairs_hook=_no_duplicates,
        )
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: a JSON object is wanted, a {type(value).__name__} came")
    return value


def write_shards(
    directory: Path,
    tensors: Mapping[str, TensorSpec],
    value_of: Callable[[str], Tensor],
    max_shard_bytes: int,
) -> None:
    """Write tensors as one file, or as shards with an index when they are larger than one.

    Same tensors, same bytes. `value_of` is asked for one tensor at a time, and it is written
    before the next.

    Raises:
        CheckpointError: a tensor is of a type that the format, or this writer, does not have.
    """
    for key, spec in tensors.items():
        if spec.dtype not in _NAMES:
            kind = str(spec.dtype).removeprefix("torch.")
            raise CheckpointError(f"{key} is {kind}, which cannot be written; cast it first")
    shards = _shards(tensors, max_shard_bytes)
    if len(shards) == 1:
        _write_file(directory / SINGLE_NAME, tensors, shards[0], value_of)
        return
    names = [
        f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        for number in range(1, len(shards) + 1)
    ]
    for name, keys in zip(names, shards, strict=True):
        _write_file(directory / name, tensors, keys, value_of)
    file_of = {key: name for name, keys in zip(names, shards, strict=True) for key in keys}
    total = sum(spec.num_bytes for spec in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(file_of.items()))}
    (directory / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def listed_keys(directory: Path) -> set[str] | None:
    """Names the shard index gives, whether or not the shards are there; None without an index."""
    path = directory / INDEX_NAME
    return set(_weight_map(path)) if path.is_file() else None


def unsafe_weights(directory: Path) -> str | None:
    """Why weights lie there that we do not read, and how to make them readable; None: none do."""
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    if any(name.startswith(("global_step", "mp_rank_")) for name in names):
        return (
            f"{directory}: a DeepSpeed checkpoint, which is pickle, and pickle runs code when "
            "it is read. Merge its model and expert files into one state dict where it "
            "was written, save that with safetensors.torch.save_file, and load the result"
        )
    pickles = sorted(name for name in names if name.endswith(_PICKLES))
    if pickles:
        return (
            f"{directory}: weights only as pickle ({pickles[0]}), which runs code when it is read. "
            "Convert it where you trust it: safetensors.torch.save_file(torch.load(file, "
            "weights_only=True), 'model.safetensors')"
        )
    return None


def _files_of(directory: Path) -> dict[str, set[str] | None]:
    """File name -> keys the index places there; None where no index says."""
    index = directory / INDEX_NAME
    if index.is_file():
        files: dict[str, set[str] | None] = {}
        for key, name in _weight_map(index).items():
            listed = files.setdefault(name, set())
            assert listed is not None
            listed.add(key)
        return files
    if (directory / SINGLE_NAME).is_file():
        return {SINGLE_NAME: None}
    found = sorted(path.name for path in directory.glob("*.safetensors"))
    if len(found) == 1:
        return {found[0]: None}
    if found:
        raise CheckpointError(
            f"{directory}: {len(found)} safetensors files and no {INDEX_NAME} to say what belongs "
            f"to the model; add the index, or name the one file {SINGLE_NAME}"
        )
    raise CheckpointError(
        unsafe_weights(directory)
        or f"{directory}: no {SINGLE_NAME} and no {INDEX_NAME}; name a directory with weights"
    )


def _weight_map(path: Path) -> dict[str, str]:
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path}: no weight_map; the index of a sharded checkpoint has one")
    for key, name in weight_map.items():
        is_plain = isinstance(name, str) and Path(name).name == name and "\\" not in name
        if not is_plain or not name.endswith(".safetensors"):
            raise CheckpointError(
                f"{path}: places {key} in {name!r}; need the name of a safetensors file beside it"
            )
    return weight_map


def _header(path: Path) -> dict[str, _Entry]:
    """What a file says of its tensors, once the library has found length and offsets sound."""
    try:
        with safe_open(path, framework="numpy"), path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            entries = json.loads(file.read(length), object_pairs_hook=_no_duplicates)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing; the index names it. Fetch it again") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged or cut short ({error}). Fetch it again") from error
    entries.pop("__metadata__", None)
    first = 8 + length
    return {
        key: _Entry(
            entry["dtype"],
            tuple(entry["shape"]),
            _Place(path, *(first + offset for offset in entry["data_offsets"])),
        )
        for key, entry in entries.items()
    }


def _refuse(path: Path, fault: str, culprits: Any, among: Any) -> None:
    keys = sorted(set(culprits) & set(among))
    if keys:
        raise CheckpointError(f"{path}: {fault}: {', '.join(keys[:3])} ({len(keys)} in all)")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name is given twice in one object")
    return values


def _shards(tensors: Mapping[str, TensorSpec], max_bytes: int) -> list[list[str]]:
    """Keys in name order, cut where the next one would not fit; a shard holds at least one."""
    shards: list[list[str]] = [[]]
    room = max_bytes
    for key in sorted(tensors):
        if shards[-1] and tensors[key].num_bytes > room:
            shards.append([])
            room = max_bytes
        shards[-1].append(key)
        room -= tensors[key].num_bytes
    return shards


def _write_file(
    path: Path,
    tensors: Mapping[str, TensorSpec],
    keys: list[str],
    value_of: Callable[[str], Tensor],
) -> None:
    """The layout of the safetensors library, byte for byte, without all tensors in memory."""
    order = list(_NAMES)
    keys = sorted(keys, key=lambda key: (order.index(tensors[key].dtype), key))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key in keys:
        dtype, shape = tensors[key]
        start, end = end, end + tensors[key].num_bytes
        header[key] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for key in keys:
            _write_value(file, value_of(key), tensors[key])


def _write_value(file: Any, value: Tensor, spec: TensorSpec) -> None:
    if value.dtype != spec.dtype or tuple(value.shape) != spec.shape:
        raise ValueError(f"announced {spec}, came {value.dtype} {tuple(value.shape)}")
    file.write(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
