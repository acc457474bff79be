"""Where half precision pays."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from unimoe.nn import precision
from unimoe.nn.precision import mixed_precision, product_dtype


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    precision._cpu_is_faster_in_bf16.cache_clear()
    yield
    precision._cpu_is_faster_in_bf16.cache_clear()


@pytest.mark.parametrize(
    ("has_tiles", "has_bf16", "maker", "expected"),
    [
        (False, False, "AuthenticAMD", torch.float32),
        (False, True, "AuthenticAMD", torch.bfloat16),
        (False, False, "GenuineIntel", torch.float32),
        (False, True, "GenuineIntel", torch.float32),
        (True, True, "GenuineIntel", torch.bfloat16),
    ],
)
def test_a_cpu_multiplies_in_bf16_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch,
    has_tiles: bool,
    has_bf16: bool,
    maker: str,
    expected: torch.dtype,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bf16)
    monkeypatch.setattr(precision, "_is_by_intel", lambda: maker == "GenuineIntel")
    assert product_dtype("cpu") == expected
    with mixed_precision("cpu"):
        assert torch.is_autocast_enabled("cpu") == (expected == torch.bfloat16)


def test_other_devices_multiply_in_bf16() -> None:
    assert product_dtype("cuda") == torch.bfloat16


@pytest.mark.parametrize(("maker", "expected"), [("GenuineIntel", True), ("AuthenticAMD", False)])
def test_who_made_the_processor_stands_in_a_file_or_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maker: str, expected: bool
) -> None:
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "_CPU_INFO", file)
    monkeypatch.setattr(precision.platform, "processor", lambda: f"Family 6, {maker}")
    assert precision._is_by_intel() is expected
    other = "AuthenticAMD" if expected else "GenuineIntel"
    file.write_text(f"vendor_id : {other}")
    assert precision._is_by_intel() is not expected
