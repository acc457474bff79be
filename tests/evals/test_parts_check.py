"""The checks of parts: a second decoder, recorded numbers, damage told before anything else."""

from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.parts.made_archives import archive_of, part_of, wheel
from unimoe.evals.parts_check import (
    STEPS,
    TOKENS,
    VOCABULARY,
    _compared,
    _reference,
    check_part,
    probe_mel,
    probe_pixels,
    q4_1_values,
    q8_0_values,
)
from unimoe.parts import fetch

DECODERS = {"Q4_1": q4_1_values, "Q8_0": q8_0_values}


@pytest.mark.parametrize("kind", DECODERS)
def test_blocks_decode_bit_for_bit_as_the_gguf_package_does(kind: str) -> None:
    values = np.random.default_rng(0).normal(size=(5, 96)).astype(np.float32)
    blocks = gguf.quantize(values, gguf.GGMLQuantizationType[kind])
    found = DECODERS[kind](blocks)
    assert np.array_equal(found, gguf.dequantize(blocks, gguf.GGMLQuantizationType[kind]))
    assert np.abs(found - values).max() < 0.3


def test_recorded_numbers_have_the_shapes_of_what_is_compared() -> None:
    shapes = {name: array.shape for name, array in _reference().items()}
    assert shapes == {
        "dinov2.states": (2, len(range(257)[TOKENS]), 384),
        "whisper.states": (1, len(range(1500)[STEPS]), 384),
        "whisper.logits": (3, len(range(51864)[VOCABULARY])),
    }


def test_made_up_inputs_look_like_real_ones() -> None:
    assert float(np.abs(probe_pixels()).max()) < 3
    assert float(np.abs(probe_mel()).max()) < 1.5
    assert float(probe_mel().std()) > 0.2


def test_a_difference_beyond_the_tolerance_is_wrong() -> None:
    theirs = np.ones((2, 3), np.float32)
    assert _compared("part", "what", theirs + np.float32(1e-4), theirs).is_right
    assert not _compared("part", "what", theirs + np.float32(1e-3), theirs).is_right


def test_damage_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIMOE_CACHE", str(tmp_path / "cache"))
    part = part_of(archive_of(wheel(tmp_path / "thing-1.0-py3-none-any.whl", {"a": b"A"}), "a"))
    folder = fetch(part, local=tmp_path)
    assert [check.is_right for check in check_part(part)] == [True]
    (folder / "a").write_bytes(b"B")
    (check,) = check_part(part)
    assert not check.is_right
    assert check.found == "differ or are missing: a"
