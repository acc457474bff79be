"""Files of tensors: written as the safetensors library does, and never trusted when read."""

import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from unimoe.checkpoint.storage import (
    INDEX_NAME,
    SafetensorsFiles,
    TensorSpec,
    read_json,
    write_shards,
)
from unimoe.errors import CheckpointError

TENSORS = {
    "b.weight": torch.arange(6, dtype=torch.float32).view(2, 3),
    "a.weight": torch.arange(5, dtype=torch.bfloat16),
    "half": torch.ones(3, dtype=torch.float16),
    "scalar": torch.tensor(2.0),
    "empty": torch.zeros(0, 4),
    "double": torch.ones(1, dtype=torch.float64),
    "größe": torch.ones(2),
    "count": torch.tensor([7]),
}


def write(directory: Path, tensors: dict[str, Tensor], max_shard_bytes: int = 10**9) -> Path:
    directory.mkdir(exist_ok=True)
    specs = {key: TensorSpec(value.dtype, tuple(value.shape)) for key, value in tensors.items()}
    write_shards(directory, specs, tensors.__getitem__, max_shard_bytes)
    return directory


def test_a_file_has_the_bytes_the_library_writes(tmp_path: Path) -> None:
    write(tmp_path, TENSORS)
    save_file(TENSORS, tmp_path / "theirs.safetensors", {"format": "pt"})
    ours = (tmp_path / "model.safetensors").read_bytes()
    assert ours == (tmp_path / "theirs.safetensors").read_bytes()


@pytest.mark.parametrize("max_shard_bytes", [1, 20, 40, 10**9])
def test_shards_of_any_size_read_back_bit_by_bit(tmp_path: Path, max_shard_bytes: int) -> None:
    files = SafetensorsFiles(write(tmp_path, TENSORS, max_shard_bytes))
    assert set(files.shapes) == set(TENSORS)
    for key, value in TENSORS.items():
        assert files.read(key).dtype == value.dtype
        assert torch.equal(files.read(key), value)


def test_no_shard_exceeds_its_bound_unless_one_tensor_does(tmp_path: Path) -> None:
    tensors = {f"t{i}": torch.ones(i % 4 + 1) for i in range(12)} | {"large": torch.ones(50)}
    write(tmp_path, tensors, max_shard_bytes=40)
    index = json.loads((tmp_path / INDEX_NAME).read_text())
    by_file: dict[str, list[str]] = {}
    for key, name in index["weight_map"].items():
        by_file.setdefault(name, []).append(key)
    sizes = {name: sum(tensors[key].nbytes for key in keys) for name, keys in by_file.items()}
    assert len(sizes) > 2
    assert all(size <= 40 or by_file[name] == ["large"] for name, size in sizes.items())
    assert index["metadata"]["total_size"] == sum(sizes.values())


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    reversed_order = dict(reversed(TENSORS.items()))
    first = write(tmp_path / "first", TENSORS, 30)
    second = write(tmp_path / "second", reversed_order, 30)
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_a_tensor_is_written_before_the_next_is_asked_for(tmp_path: Path) -> None:
    sizes = []

    def value_of(key: str) -> Tensor:
        sizes.append((tmp_path / "model.safetensors").stat().st_size)
        return torch.ones(100_000)

    specs = {key: TensorSpec(torch.float32, (100_000,)) for key in "abc"}
    write_shards(tmp_path, specs, value_of, 10**9)
    assert sizes[2] - sizes[1] == pytest.approx(400_000, abs=10_000)


def test_a_type_that_files_do_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"z is complex64"):
        write(tmp_path, {"z": torch.ones(1, dtype=torch.complex64)})


def place(directory: Path, weight_map: dict[str, str]) -> None:
    (directory / INDEX_NAME).write_text(json.dumps({"weight_map": weight_map}))


def two_shards(directory: Path) -> Path:
    save_file({"a": torch.ones(1)}, directory / "one.safetensors")
    save_file({"b": torch.ones(2)}, directory / "two.safetensors")
    place(directory, {"a": "one.safetensors", "b": "two.safetensors"})
    return directory


def test_the_index_says_which_file_holds_what(tmp_path: Path) -> None:
    files = SafetensorsFiles(two_shards(tmp_path))
    assert files.shapes == {"a": (1,), "b": (2,)}
    assert torch.equal(files.read("b"), torch.ones(2))


@pytest.mark.parametrize(
    "name", ["../two.safetensors", "/etc/passwd", "sub/two.safetensors", "..", "", "a\\b", 7]
)
def test_an_index_may_name_only_files_beside_it(tmp_path: Path, name: str) -> None:
    two_shards(tmp_path)
    place(tmp_path, {"a": "one.safetensors", "b": name})
    with pytest.raises(CheckpointError, match=r"places b in .*file beside it"):
        SafetensorsFiles(tmp_path)


def test_an_index_that_lists_a_missing_shard(tmp_path: Path) -> None:
    two_shards(tmp_path)
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"two.safetensors: missing"):
        SafetensorsFiles(tmp_path)


def test_an_index_that_lists_a_tensor_its_shard_lacks(tmp_path: Path) -> None:
    two_shards(tmp_path)
    place(tmp_path, {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"})
    with pytest.raises(CheckpointError, match=r"two.safetensors: lacks .* c \(1 in all\)"):
        SafetensorsFiles(tmp_path)


def test_a_shard_with_a_tensor_the_index_does_not_list(tmp_path: Path) -> None:
    two_shards(tmp_path)
    save_file({"b": torch.ones(2), "c": torch.ones(1)}, tmp_path / "two.safetensors")
    with pytest.raises(CheckpointError, match=r"does not list: c"):
        SafetensorsFiles(tmp_path)


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    two_shards(tmp_path)
    save_file({"b": torch.ones(2), "a": torch.zeros(1)}, tmp_path / "two.safetensors")
    with pytest.raises(CheckpointError, match=r"another file: a"):
        SafetensorsFiles(tmp_path)


def test_several_files_without_an_index_are_ambiguous(tmp_path: Path) -> None:
    two_shards(tmp_path)
    (tmp_path / INDEX_NAME).unlink()
    with pytest.raises(CheckpointError, match=r"2 safetensors files and no model.safetensors.ind"):
        SafetensorsFiles(tmp_path)


def test_one_file_of_any_name_is_enough(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "weights.safetensors")
    assert SafetensorsFiles(tmp_path).shapes == {"a": (1,)}


class _Trap:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("pytorch_model.bin", r"only as pickle.*safetensors.torch.save_file"),
        ("model.pth", r"only as pickle"),
        ("mp_rank_00_model_states.pt", r"DeepSpeed.*Merge its model and expert files"),
    ],
)
def test_pickle_is_refused_unread_with_the_way_out(tmp_path: Path, name: str, advice: str) -> None:
    touched = tmp_path / "touched"
    torch.save({"module": _Trap(touched)}, tmp_path / name)
    with pytest.raises(CheckpointError, match=advice):
        SafetensorsFiles(tmp_path)
    assert not touched.exists()


def test_a_deepspeed_step_folder_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "global_step400").mkdir()
    with pytest.raises(CheckpointError, match=r"DeepSpeed"):
        SafetensorsFiles(tmp_path)


@pytest.mark.parametrize("name", ["nothing", "elsewhere/deep"])
def test_a_directory_without_weights(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"name a directory with weights"):
        SafetensorsFiles(tmp_path / name)


def header(text: str, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text.encode() + data


def test_values_at_an_odd_place_read_right(tmp_path: Path) -> None:
    text = '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]} }'
    assert (8 + len(text)) % 4 != 0
    values = torch.tensor([1.5, -2.0])
    path = tmp_path / "model.safetensors"
    path.write_bytes(header(text, values.numpy().tobytes()))
    assert torch.equal(SafetensorsFiles(tmp_path).read("a") * 2, values * 2)


def test_what_is_read_may_be_changed_without_changing_the_file(tmp_path: Path) -> None:
    write(tmp_path, TENSORS)
    before = (tmp_path / "model.safetensors").read_bytes()
    SafetensorsFiles(tmp_path).read("b.weight").zero_()
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_a_type_that_we_cannot_read_is_named(tmp_path: Path) -> None:
    text = '{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}'
    (tmp_path / "model.safetensors").write_bytes(header(text, b"\0" * 4))
    files = SafetensorsFiles(tmp_path)
    assert "a" not in files.dtypes
    with pytest.raises(CheckpointError, match=r"a is F8_E4M3, unreadable"):
        files.read("a")


DAMAGED = {
    "empty": b"",
    "short": b"\x08\x00",
    "endless header": struct.pack("<Q", 2**62) + b"{}",
    "no JSON": header("nonsense"),
    "truncated": header('{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', b"\0" * 7),
    "trailing": header('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"\0" * 9),
    "size": header('{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}', b"\0" * 4),
    "overflow": header(
        '{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}', b"\0" * 4
    ),
    "overlap": header(
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        '"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b"\0" * 4,
    ),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_a_damaged_file_is_a_checkpoint_error(tmp_path: Path, fault: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(DAMAGED[fault])
    with pytest.raises(CheckpointError, match=r"damaged or cut short"):
        SafetensorsFiles(tmp_path)


@settings(max_examples=60)
@given(data=st.data())
def test_a_file_with_flipped_or_missing_bytes_reads_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("fuzz")
    content = bytearray((write(directory, TENSORS) / "model.safetensors").read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(content)))
    (directory / "model.safetensors").write_bytes(content[:end])
    try:
        files = SafetensorsFiles(directory)
    except CheckpointError:
        return
    assert all(files.read(key).numel() >= 0 for key in files.dtypes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"no valid JSON"),
        ("[]", r"a JSON object is wanted, a list came"),
        ('{"top_p": NaN}', r"NaN is no JSON number"),
        ('{"a": 1, "a": 2}', r"given twice"),
        ("[" * 100_000, r"no valid JSON"),
        ("\udcff", r"no valid JSON"),
    ],
)
def test_json_is_read_strictly(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=message):
        read_json(path)


def test_a_missing_json_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config.json: cannot be read: No such file"):
        read_json(tmp_path / "config.json")
