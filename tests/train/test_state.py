import pytest
import torch

from unimoe.errors import TrainingError
from unimoe.train.state import load_state, save_state, state_paths


def test_a_state_comes_back_as_it_was(tmp_path):
    tensors = {"weight/a": torch.arange(3.0), "step/a": torch.tensor(2.0)}
    generator = torch.get_rng_state()
    path = save_state(tmp_path, 7, tensors, {"batches": [1, "x"]}, keep=2)
    found = load_state(path)
    assert found.step == 7
    assert found.progress == {"batches": [1, "x"]}
    assert found.random_generator.equal(generator)
    assert found.tensors.keys() == tensors.keys()
    assert all(found.tensors[name].equal(tensors[name]) for name in tensors)


def test_only_the_newest_states_stay(tmp_path):
    for step in (1, 2, 10):
        save_state(tmp_path, step, {"weight/a": torch.ones(1)}, {}, keep=2)
    assert [load_state(path).step for path in state_paths(tmp_path)] == [2, 10]


@pytest.mark.parametrize("damage", [b"", b"\x00" * 4, b"\x08\0\0\0\0\0\0\0nonsense"])
def test_a_damaged_state_is_told_by_its_name(damage, tmp_path):
    path = tmp_path / "state-00000001.safetensors"
    path.write_bytes(damage)
    with pytest.raises(TrainingError, match=r"state-00000001\.safetensors: no state of a run"):
        load_state(path)


def test_a_state_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(TrainingError, match="cannot be written"):
        save_state(tmp_path / "missing", 1, {"weight/a": torch.ones(1)}, {}, keep=1)
