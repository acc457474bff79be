"""Half precision where the machine multiplies in it, float32 everywhere else."""

import torch


def multiplies_in_bf16(device_type: str) -> bool:
    """Whether bf16 products are fast there; a CPU without them takes 50 times as long."""
    if device_type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return True


def mixed_precision(device_type: str) -> torch.autocast:
    """Within it float32 weights multiply in bf16, where that is fast."""
    return torch.autocast(device_type, torch.bfloat16, enabled=multiplies_in_bf16(device_type))
