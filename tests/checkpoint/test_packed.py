"""Tensors in int8 rows."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from unimoe.checkpoint.packed import read_packed, write_packed
from unimoe.errors import CheckpointError


def test_values_come_back_within_half_a_step_of_their_row(tmp_path):
    matrix = torch.randn(3, 5, 40) * torch.tensor([1e-4, 1.0, 300.0])[:, None, None]
    write_packed({"matrix": matrix}, tmp_path / "a.safetensors")
    found = read_packed(tmp_path / "a.safetensors")["matrix"]
    half_step = matrix.abs().amax(-1, keepdim=True) / 254
    assert ((found - matrix).abs() <= half_step * 1.001).all()


def test_vectors_and_zero_rows_are_exact(tmp_path):
    tensors = {"bias": torch.randn(7), "query": torch.zeros(2, 9)}
    write_packed(tensors, tmp_path / "a.safetensors")
    found = read_packed(tmp_path / "a.safetensors")
    assert torch.equal(found["bias"], tensors["bias"])
    assert torch.equal(found["query"], tensors["query"])


def test_a_matrix_takes_a_quarter_of_its_bytes(tmp_path):
    write_packed({"matrix": torch.randn(512, 1536)}, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_size < 0.26 * 4 * 512 * 1536


def test_what_is_no_number_is_not_written(tmp_path):
    with pytest.raises(CheckpointError, match="router holds values that are no numbers"):
        write_packed({"router": torch.tensor([[1.0, torch.nan]])}, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_a_matrix_without_scales_is_refused(tmp_path):
    write_packed({"matrix": torch.randn(2, 3)}, tmp_path / "a.safetensors")
    stored = load_file(tmp_path / "a.safetensors")
    save_file({"matrix": stored["matrix"]}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="without its scales"):
        read_packed(tmp_path / "a.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no\.safetensors"):
        read_packed(tmp_path / "no.safetensors")
