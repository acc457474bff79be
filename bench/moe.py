"""The MoE layer against a loop, the padded released dispatch, transformers, and the bare GEMMs.

    python bench/moe.py [--rounds 9] [--quick]

Routing is planted, not learned: the first router columns read the first channels of the input.
`balanced`: every token takes two of the four routed experts, all pairs alike.  `skewed`: the
tokens of one picture: nine of ten take the vision expert alone, the rest a second one as well.
All contestants get the same routing from the same code; what differs is how experts are run.
Times are wall clock, fp32; a ratio is the median over interleaved rounds.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
from timing import Duel, duel, machine
from torch import Tensor
from torch.nn import functional
from transformers import Qwen3MoeConfig
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

from unimoe.config import MoEConfig, RouterConfig
from unimoe.nn.moe import DynamicMoE
from unimoe.nn.router import route

SIZES = ((896, 4864), (576, 1536))
NUM_TOKENS = (1, 32, 512, 2048)
PAIRS = ((0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2))
LOW, HIGH = -9.0, 3.0


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    hidden: int
    inner: int
    tokens: int
    skew: str
    trains: bool


def planted_layer(setting: Setting, router: RouterConfig) -> tuple[DynamicMoE, Tensor]:
    """A layer whose routing is decided by the first channels of its input, and that input."""
    torch.manual_seed(0)
    config = MoEConfig(router=router, routed_width=setting.inner, shared_width=setting.inner // 8)
    layer = DynamicMoE(setting.hidden, config).train(setting.trains)
    columns = router.num_columns
    with torch.no_grad():
        layer.router.weight.zero_()
        layer.router.weight[:, :columns] = torch.eye(columns)
    hidden = torch.randn(1, setting.tokens, setting.hidden)
    hidden[..., :columns] = LOW
    hidden[..., router.num_dynamic : columns] = 0.0
    for token in range(setting.tokens):
        for expert in _experts_of(token, setting.skew):
            hidden[0, token, expert] = HIGH
    return layer, hidden.requires_grad_(setting.trains)


def _experts_of(token: int, skew: str) -> tuple[int, ...]:
    if skew == "null":
        return (4,)
    if skew == "skewed":
        return (0, 1 + token // 10 % 3) if token % 10 == 9 else (0,)
    return PAIRS[token % len(PAIRS)]


def oracle_loop(layer: DynamicMoE, hidden: Tensor) -> Tensor:
    """Every expert in turn picks its rows: the plain loop of most model code."""
    tokens, weights, mask = _routed(layer, hidden)
    output = torch.zeros_like(tokens)
    for expert in range(layer.config.router.num_routed):
        rows = mask[:, expert].nonzero(as_tuple=True)[0]
        if len(rows):
            result = _mlp(tokens[rows], layer.routed_gate_up[expert], layer.routed_down[expert])
            output = output.index_add(0, rows, result * weights[rows, expert, None])
    return (output + _shared(layer, tokens, weights)).view_as(hidden)


def padded_dispatch(layer: DynamicMoE, hidden: Tensor) -> Tensor:
    """The released way: every expert gets as many rows as the busiest one, zeros where it has none.

    Restated from docs/sources.md#moe, steps 9 and 10; without its NaN checks and collective calls.
    """
    tokens, weights, mask = _routed(layer, hidden)
    num_routed = layer.config.router.num_routed
    counts = mask[:, :num_routed].sum(0)
    capacity = int(counts.max())
    outputs = tokens.new_zeros(len(tokens), num_routed, tokens.shape[1])
    for expert in range(num_routed):
        rows = mask[:, expert].to(torch.int8).argsort(descending=True)[: int(counts[expert])]
        padded = functional.pad(tokens[rows], (0, 0, 0, capacity - len(rows)))
        result = _mlp(padded, layer.routed_gate_up[expert], layer.routed_down[expert])
        outputs[rows, expert] = result[: len(rows)]
    gates = weights[:, :num_routed] * mask[:, :num_routed]
    routed = torch.einsum("se,sem->sm", gates, outputs)
    return (routed + _shared(layer, tokens, weights)).view_as(hidden)


def _routed(layer: DynamicMoE, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    tokens = hidden.flatten(0, 1)
    routing = route(layer.router(tokens), layer.config.router)
    return tokens, routing.weights, routing.mask


def _shared(layer: DynamicMoE, tokens: Tensor, weights: Tensor) -> Tensor:
    router = layer.config.router
    output = torch.zeros_like(tokens)
    for expert in range(router.num_shared):
        result = _mlp(tokens, layer.shared_gate_up[expert], layer.shared_down[expert])
        output = output + result * weights[:, router.num_dynamic + expert, None]
    return output


def _mlp(rows: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    gate_proj, up_proj = gate_up.chunk(2)
    inner = functional.silu(functional.linear(rows, gate_proj)) * functional.linear(rows, up_proj)
    return functional.linear(inner, down)


def bare_products(layer: DynamicMoE, hidden: Tensor, trains: bool) -> Callable[[], None]:
    """Only the matrix products over the rows really routed, into buffers made before: the limit."""
    with torch.no_grad():
        mask = layer(hidden).routing.mask
    router = layer.config.router
    counts = mask[:, : router.num_routed].sum(0).tolist()
    jobs = [
        (count, layer.routed_gate_up[expert].detach(), layer.routed_down[expert].detach())
        for expert, count in enumerate(counts)
        if count
    ] + [
        (len(mask), layer.shared_gate_up[expert].detach(), layer.shared_down[expert].detach())
        for expert in range(router.num_shared)
    ]
    products = [product for job in jobs for product in _products(*job, trains)]

    def run() -> None:
        for left, right, out in products:
            torch.mm(left, right, out=out)

    return run


def _products(
    count: int, gate_up: Tensor, down: Tensor, trains: bool
) -> list[tuple[Tensor, Tensor, Tensor]]:
    rows, both = torch.randn(count, down.shape[0]), torch.randn(count, gate_up.shape[0])
    inner = torch.randn(count, down.shape[1])
    forward = [
        (rows, gate_up.t(), torch.empty_like(both)),
        (inner, down.t(), torch.empty_like(rows)),
    ]
    if not trains:
        return forward
    return [
        *forward,
        (rows, down, torch.empty_like(inner)),
        (rows.t(), inner, torch.empty_like(down)),
        (both, gate_up, torch.empty_like(rows)),
        (both.t(), rows, torch.empty_like(gate_up)),
    ]


def stepped(run: Callable[[], Tensor], module: torch.nn.Module, trains: bool) -> Callable[[], None]:
    """Forward without gradients, or forward and backward."""
    if not trains:

        def infer() -> None:
            with torch.inference_mode():
                run()

        return infer

    def learn() -> None:
        module.zero_grad(set_to_none=True)
        run().backward(gradient)

    gradient = torch.randn_like(run())
    return learn


def against_ourselves(setting: Setting, rounds: int, round_s: float) -> Duel:
    """Our layer, the loop, the padded dispatch and the bare products on one routing."""
    layer, hidden = planted_layer(setting, RouterConfig(rule="released"))
    trains = setting.trains
    contestants = {
        "ours": stepped(lambda: layer(hidden).hidden, layer, trains),
        "loop": stepped(lambda: oracle_loop(layer, hidden), layer, trains),
        "padded": stepped(lambda: padded_dispatch(layer, hidden), layer, trains),
        "products": bare_products(layer, hidden, trains),
    }
    with torch.no_grad():
        expected = layer(hidden).hidden
        for other in (oracle_loop, padded_dispatch):
            torch.testing.assert_close(other(layer, hidden), expected, atol=1e-4, rtol=1e-4)
    return duel(contestants, rounds=rounds, round_s=round_s)


def against_transformers(setting: Setting, rounds: int, round_s: float) -> Duel:
    """Our layer as plain top-2 of 4, and transformers' Qwen3 block in each of its ways."""
    router = RouterConfig(top_p=None, top_k=2, num_null=0, num_shared=0)
    layer, hidden = planted_layer(setting, router)
    contestants = {"ours": stepped(lambda: layer(hidden).hidden, layer, setting.trains)}
    # batched_mm copies an expert's weights for every row: 35 GB at 512 tokens of the large size.
    ways = (
        ("eager", "batched_mm", "grouped_mm") if setting.tokens <= 32 else ("eager", "grouped_mm")
    )
    for way in ways:
        block = _qwen3_block(layer, setting, way)
        contestants[way] = stepped(lambda block=block: block(hidden), block, setting.trains)
        with torch.no_grad():
            torch.testing.assert_close(block(hidden), layer(hidden).hidden, atol=1e-4, rtol=1e-4)
    return duel(contestants, rounds=rounds, round_s=round_s)


def _qwen3_block(layer: DynamicMoE, setting: Setting, way: str) -> torch.nn.Module:
    config = Qwen3MoeConfig(
        hidden_size=setting.hidden,
        moe_intermediate_size=setting.inner,
        num_experts=4,
        num_experts_per_tok=2,
        norm_topk_prob=True,
    )
    config._experts_implementation = way
    block = Qwen3MoeSparseMoeBlock(config).train(setting.trains)
    with torch.no_grad():
        block.gate.weight.copy_(layer.router.weight)
        block.experts.gate_up_proj.copy_(layer.routed_gate_up)
        block.experts.down_proj.copy_(layer.routed_down)
    return block


def null_cost(setting: Setting, rounds: int, round_s: float) -> float:
    """Time of a layer whose tokens all choose null over one whose tokens take two experts."""
    router = RouterConfig(rule="released", num_shared=0)
    contestants = {}
    for skew in ("null", "balanced"):
        one = Setting(setting.hidden, setting.inner, setting.tokens, skew, trains=False)
        layer, hidden = planted_layer(one, router)
        contestants[skew] = stepped(
            lambda layer=layer, hidden=hidden: layer(hidden).hidden, layer, trains=False
        )
    return duel(contestants, rounds=rounds, round_s=round_s).ratio("null", "balanced")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--round-seconds", type=float, default=0.15)
    parser.add_argument("--quick", action="store_true", help="the small size only")
    parser.add_argument("--tokens", type=int, nargs="*", default=NUM_TOKENS)
    options = parser.parse_args()
    timing = (options.rounds, options.round_seconds)
    print(f"{machine()}; medians of {options.rounds} interleaved rounds\n")
    print(
        "| size | tokens | routing | pass | ours ms | padded / ours | loop / ours "
        "| transformers / ours | ours / products |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for hidden, inner in SIZES[1:] if options.quick else SIZES:
        for tokens in options.tokens:
            for skew in ("balanced", "skewed"):
                for trains in (False, True):
                    _print_row(Setting(hidden, inner, tokens, skew, trains), timing)
    print("\n| size | tokens | all null / two experts |\n|---|---|---|")
    for hidden, inner in SIZES[1:] if options.quick else SIZES:
        for tokens in options.tokens:
            ratio = null_cost(Setting(hidden, inner, tokens, "null", trains=False), *timing)
            print(f"| {hidden}/{inner} | {tokens} | {100 * ratio:.1f} % |")


def _print_row(setting: Setting, timing: tuple[int, float]) -> None:
    result = against_ourselves(setting, *timing)
    peer = "-"
    if setting.skew == "balanced":  # top-2 of 4, the only routing its block has
        other = against_transformers(setting, *timing)
        fastest = min((n for n in other.seconds if n != "ours"), key=other.median_ms)
        peer = f"{other.ratio(fastest, 'ours'):.2f} ({fastest})"
    print(
        f"| {setting.hidden}/{setting.inner} | {setting.tokens} | {setting.skew} "
        f"| {'forward + backward' if setting.trains else 'forward'} "
        f"| {result.median_ms('ours'):.2f} | {result.ratio('padded', 'ours'):.2f} "
        f"| {result.ratio('loop', 'ours'):.2f} | {peer} | {result.ratio('ours', 'products'):.2f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
