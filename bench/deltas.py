"""Experts as low-rank deltas of one block against the same experts merged into whole matrices.

    python bench/deltas.py [--rounds 9] [--rank 16]

Both layers compute the same function of the same routing at the size of mini (hidden 576, inner
1536, 4 routed experts, 1 null, 2 shared of 192). `one`: every token takes one routed expert, all
four in turn; `two`: two of them.  Times are wall clock, fp32; a ratio is the median over
interleaved rounds; memory is that of the parameters.
"""

import argparse

import torch
from timing import duel, machine

from unimoe.config import MoEConfig, RouterConfig
from unimoe.nn.deltas import LowRank
from unimoe.nn.moe import DynamicMoE

HIDDEN, INNER, SHARED = 576, 1536, 192
NUM_TOKENS = (1, 32, 512, 2048)
LOW, HIGH = -9.0, 3.0


def delta_layer(rank: int) -> DynamicMoE:
    """Random deltas; the router reads the first channels."""
    torch.manual_seed(0)
    moe = MoEConfig(router=RouterConfig(), routed_width=INNER, shared_width=SHARED, delta_rank=rank)
    layer = DynamicMoE(HIDDEN, moe)
    assert layer.deltas is not None
    with torch.no_grad():
        for part in (layer.deltas.routed, layer.deltas.shared):
            torch.nn.init.normal_(part.gate_up_out, std=0.02)
            torch.nn.init.normal_(part.down_out, std=0.02)
        layer.router.weight.zero_()
        layer.router.weight[:, :7] = torch.eye(7)
    return layer


@torch.no_grad()
def merged_layer(layer: DynamicMoE) -> DynamicMoE:
    """The same experts, each with matrices of its own."""
    moe = MoEConfig(router=RouterConfig(), routed_width=INNER, shared_width=SHARED)
    merged = DynamicMoE(HIDDEN, moe)
    merged.router.weight.copy_(layer.router.weight)
    deltas = layer.deltas
    assert deltas is not None
    gate_up, down = deltas.base.gate_up_proj.weight, deltas.base.down_proj.weight
    for expert in range(4):
        merged.routed_gate_up[expert] = gate_up + product(deltas.routed, "gate_up", expert)
        merged.routed_down[expert] = down + product(deltas.routed, "down", expert)
    for expert in range(2):
        own = torch.arange(expert * SHARED, (expert + 1) * SHARED)
        rows = torch.cat([own, own + INNER])
        merged.shared_gate_up[expert] = gate_up[rows] + product(deltas.shared, "gate_up", expert)
        merged.shared_down[expert] = down[:, own] + product(deltas.shared, "down", expert)
    return merged


def product(part: LowRank, name: str, expert: int) -> torch.Tensor:
    """One delta as a whole matrix."""
    return getattr(part, f"{name}_out")[expert] @ getattr(part, f"{name}_in")[expert]


def planted(num_tokens: int, num_taken: int) -> torch.Tensor:
    """Tokens whose first channels say which experts they take."""
    hidden = torch.randn(1, num_tokens, HIDDEN)
    hidden[..., :7] = LOW
    hidden[..., 5:7] = 0.0
    for token in range(num_tokens):
        for step in range(num_taken):
            hidden[0, token, (token + step) % 4] = HIGH
    return hidden


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rank", type=int, default=16)
    options = parser.parse_args()
    deltas = delta_layer(options.rank)
    merged = merged_layer(deltas)
    print(machine())
    for name, layer in (("deltas", deltas), ("merged", merged)):
        numbers = sum(parameter.numel() for parameter in layer.parameters())
        print(f"{name}: {numbers:,} parameters, {4 * numbers / 1e6:.1f} MB in float32")
    print("| tokens | experts | direction | deltas ms | merged ms | merged / deltas |")
    print("|--:|--:|---|--:|--:|--:|")
    for num_tokens in NUM_TOKENS:
        for num_taken in (1, 2):
            hidden = planted(num_tokens, num_taken)
            torch.testing.assert_close(
                deltas(hidden).hidden, merged(hidden).hidden, rtol=1e-3, atol=1e-3
            )
            for direction in ("forward", "training"):
                print(row(deltas, merged, hidden, num_taken, direction, options.rounds))


def row(
    deltas: DynamicMoE,
    merged: DynamicMoE,
    hidden: torch.Tensor,
    num_taken: int,
    direction: str,
    rounds: int,
) -> str:
    """One line of the table; training is forward and backward with what each form learns."""

    def call(layer: DynamicMoE) -> None:
        if direction == "forward":
            with torch.no_grad():
                layer(hidden)
        else:
            layer(hidden).hidden.sum().backward()

    assert deltas.deltas is not None
    deltas.deltas.base.requires_grad_(False)
    result = duel(
        {"deltas": lambda: call(deltas), "merged": lambda: call(merged)}, rounds=rounds, round_s=0.2
    )
    return (
        f"| {hidden.shape[1]} | {num_taken} | {direction} | {result.median_ms('deltas'):.2f} | "
        f"{result.median_ms('merged'):.2f} | {result.ratio('merged', 'deltas'):.2f} |"
    )


if __name__ == "__main__":
    main()
