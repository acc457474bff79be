"""The small parts of decoder layers: RMS norm, the dense feed-forward block, low-rank products.

In:  hidden states [batch, seq, hidden].  Out: the same shape.
Source: Qwen2 and Llama decoders; released layer norm order (docs/sources.md#decoder).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class RMSNorm(nn.Module):
    """Divide by the root mean square, then scale by a learned weight."""

    def __init__(self, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.eps = eps

    def forward(self, hidden: Float[Tensor, "... hidden"]) -> Float[Tensor, "... hidden"]:
        """Normalise in float32, cast back, and only then scale: the order shows in bf16."""
        weight = self.weight
        unit = functional.rms_norm(hidden.float(), weight.shape, eps=self.eps)
        return unit.to(hidden.dtype) * weight


def thin(
    rows: Float[Tensor, "*rows wide"],
    into: Float[Tensor, "rank wide"],
    out: Float[Tensor, "broad rank"],
) -> Float[Tensor, "*rows broad"]:
    """The product with a matrix of low rank, out @ into."""
    # It may be kept in float32 beside a bf16 block: it is what learns.
    return functional.linear(functional.linear(rows, into.to(rows.dtype)), out.to(rows.dtype))


class SwiGLU(nn.Module):
    """Dense feed-forward block: down(silu(gate(x)) * up(x)), no biases.

    Gate and up are one matrix (rows: gate, then up), so that decoding reads it in one pass.
    """

    def __init__(self, hidden_size: int, width: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(hidden_size, 2 * width, bias=False)
        self.down_proj = nn.Linear(width, hidden_size, bias=False)

    def forward(
        self, hidden: Float[Tensor, "batch seq hidden"]
    ) -> Float[Tensor, "batch seq hidden"]:
        """Apply the block to every token."""
        gate, up = self.gate_up_proj(hidden).chunk(2, dim=-1)
        output: Tensor = self.down_proj(functional.silu(gate) * up)
        return output
