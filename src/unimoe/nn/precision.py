"""Half precision where the machine multiplies faster in it, float32 everywhere else."""

import functools
import platform
from pathlib import Path

import torch

_CPU_INFO = Path("/proc/cpuinfo")


def product_dtype(device_type: str) -> torch.dtype:
    """bfloat16, if its products are faster there than those of float32, which it is otherwise.

    A CPU without instructions for bf16 takes 50 times as long as in float32. One by AMD that has
    them takes half as long, one by Intel twice as long, unless it also has tiles (docs/log.md).
    """
    is_faster = device_type != "cpu" or _cpu_is_faster_in_bf16()
    return torch.bfloat16 if is_faster else torch.float32


def mixed_precision(device_type: str) -> torch.autocast:
    """Within it float32 weights multiply in bf16, where that is faster."""
    is_faster = product_dtype(device_type) == torch.bfloat16
    return torch.autocast(device_type, torch.bfloat16, enabled=is_faster)


@functools.cache
def _cpu_is_faster_in_bf16() -> bool:
    if torch.cpu._is_amx_tile_supported():
        return True
    return bool(torch.cpu._is_avx512_bf16_supported()) and not _is_by_intel()


def _is_by_intel() -> bool:
    # Asked in vain for its processor, Linux says so in a file.
    maker = _CPU_INFO.read_text("utf-8") if _CPU_INFO.exists() else platform.processor()
    return "GenuineIntel" in maker
