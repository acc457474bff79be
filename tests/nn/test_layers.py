import torch
from hypothesis import given
from hypothesis import strategies as st

from unimoe.nn.layers import RMSNorm, SwiGLU


def test_rms_norm_scales_after_the_cast_back() -> None:
    norm = RMSNorm(64, eps=1e-6).bfloat16()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5, generator=torch.manual_seed(0))
    hidden = torch.randn(8, 64).bfloat16()
    exact = hidden.float()
    unit = (exact * (exact.square().mean(-1, keepdim=True) + 1e-6).rsqrt()).bfloat16()
    assert torch.equal(norm(hidden), unit * norm.weight)
    scaled_before_the_cast = torch.nn.functional.rms_norm(
        hidden.float(), (64,), norm.weight.float(), 1e-6
    ).bfloat16()
    assert not torch.equal(norm(hidden), scaled_before_the_cast)


def test_rms_norm_survives_values_whose_squares_overflow_half_precision() -> None:
    norm = RMSNorm(4, eps=1e-6).half()
    assert torch.equal(norm(torch.full((1, 4), 60_000.0).half()), torch.ones(1, 4).half())


@given(scale=st.floats(1e-3, 1e3))
def test_rms_norm_forgets_the_scale_of_its_input(scale: float) -> None:
    hidden = torch.randn(3, 16, generator=torch.manual_seed(1))
    norm = RMSNorm(16, eps=0.0)
    torch.testing.assert_close(norm(hidden * scale), norm(hidden), rtol=1e-5, atol=1e-6)


def test_swiglu_gates_with_the_first_half_of_its_rows() -> None:
    block = SwiGLU(6, 10)
    hidden = torch.randn(2, 3, 6)
    gate, up = block.gate_up_proj.weight[:10], block.gate_up_proj.weight[10:]
    inner = torch.nn.functional.silu(hidden @ gate.T) * (hidden @ up.T)
    torch.testing.assert_close(block(hidden), inner @ block.down_proj.weight.T)
