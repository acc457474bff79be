"""Tokens a second of greedy decoding: ours dense and upcycled, transformers, and the memory limit.

    python bench/decode.py MODEL.gguf [--rounds 5] [--new-tokens 48]

MODEL.gguf is a dense Llama-family model, for instance SmolLM2-135M-Instruct.  Every contestant
continues the same prompt greedily in fp32; the time of the first token (prefill) is left out.
The limit is the bytes of weights a token reads over the bandwidth of a large copy.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from timing import Duel, machine
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from unimoe import load_model
from unimoe.config import CoreConfig, MoEConfig
from unimoe.infer.engine import generate
from unimoe.infer.sampling import SamplingOptions
from unimoe.model.omni import OmniModel
from unimoe.model.upcycle import upcycle
from unimoe.tokens.batch import OmniBatch

PROMPT_TOKENS = 32


def our_decode(model: OmniModel, prompt: torch.Tensor, new_tokens: int) -> list[int]:
    """Tokens of our greedy generation; the first is made by the prefill."""
    batch = OmniBatch(input_ids=prompt, attention_mask=torch.ones_like(prompt))
    return generate(model, batch, SamplingOptions(max_new_tokens=new_tokens)).tokens()[0]


def their_decode(model: LlamaForCausalLM, prompt: torch.Tensor, new_tokens: int) -> list[int]:
    """Tokens of transformers' greedy generation."""
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=new_tokens, eos_token_id=None, pad_token_id=0
    )
    mask = torch.ones_like(prompt)
    output = model.generate(prompt, attention_mask=mask, generation_config=settings)
    return output[0, prompt.shape[1] :].tolist()


def as_transformers(model: OmniModel) -> LlamaForCausalLM:
    """The same dense weights in transformers' own class."""
    core = model.config.core
    peer = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=core.vocab_size,
            hidden_size=core.hidden_size,
            intermediate_size=core.ffn_width,
            num_hidden_layers=core.num_layers,
            num_attention_heads=core.num_heads,
            num_key_value_heads=core.num_kv_heads,
            head_dim=core.head_dim,
            rms_norm_eps=core.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": core.rope_theta},
            tie_word_embeddings=core.ties_embeddings,
            attention_bias=False,
        )
    ).eval()
    peer.load_state_dict(_llama_names(model.state_dict(), core), strict=False)
    return peer


def _llama_names(ours: dict[str, torch.Tensor], core: CoreConfig) -> dict[str, torch.Tensor]:
    heads = [core.num_heads, core.num_kv_heads, core.num_kv_heads]
    rows = [number * core.head_dim for number in heads]
    state = {"model.embed_tokens.weight": ours["core.embed_tokens.weight"]}
    state["model.norm.weight"] = ours["core.norm.weight"]
    for index in range(core.num_layers):
        here, there = f"core.layers.{index}", f"model.layers.{index}"
        parts = ours[f"{here}.attention.qkv_proj.weight"].split(rows)
        for name, part in zip(("q", "k", "v"), parts, strict=True):
            state[f"{there}.self_attn.{name}_proj.weight"] = part
        gate, up = ours[f"{here}.ffn.gate_up_proj.weight"].chunk(2)
        state |= {
            f"{there}.self_attn.o_proj.weight": ours[f"{here}.attention.o_proj.weight"],
            f"{there}.mlp.gate_proj.weight": gate,
            f"{there}.mlp.up_proj.weight": up,
            f"{there}.mlp.down_proj.weight": ours[f"{here}.ffn.down_proj.weight"],
            f"{there}.input_layernorm.weight": ours[f"{here}.input_norm.weight"],
            f"{there}.post_attention_layernorm.weight": ours[f"{here}.post_attention_norm.weight"],
        }
    return state


def decode_seconds(decode: Callable[[int], object], new_tokens: int) -> Callable[[], float]:
    """Seconds of all tokens but the first: a long run less a run of one token."""

    def run() -> float:
        started = time.perf_counter()
        decode(1)
        prefilled = time.perf_counter()
        decode(new_tokens)
        return (time.perf_counter() - prefilled) - (prefilled - started)

    return run


def copy_bandwidth() -> float:
    """Bytes read and written a second by the best of five copies of 256 MB."""
    source = torch.randn(64 * 1024**2)
    target = torch.empty_like(source)
    target.copy_(source)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - started)
    return 2 * source.nbytes / best


def read_bytes(model: OmniModel, experts_per_token: float) -> float:
    """Bytes of weights one token reads; of the embedding only a row, but the whole head."""
    core = model.config.core
    everything = sum(p.nbytes for p in model.core.parameters())
    if not core.ties_embeddings:
        everything -= model.core.embed_tokens.weight.nbytes
    if core.moe is None:
        return float(everything)
    routed = sum(p.nbytes for n, p in model.core.named_parameters() if ".routed_" in n)
    return everything - routed * (1 - experts_per_token / core.moe.router.num_routed)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=48)
    options = parser.parse_args()
    dense = load_model(options.gguf, dtype=torch.float32)
    width = dense.config.core.ffn_width
    mixture = upcycle(dense, MoEConfig(routed_width=width, shared_width=width // 8)).eval()
    peer = as_transformers(dense)
    torch.manual_seed(0)
    prompt = torch.randint(1000, dense.config.core.vocab_size, (1, PROMPT_TOKENS))
    same = our_decode(dense, prompt, 16) == their_decode(peer, prompt, 16)
    result = _measured(
        {
            "ours, dense": lambda count: our_decode(dense, prompt, count),
            "ours, upcycled": lambda count: our_decode(mixture, prompt, count),
            "transformers, dense": lambda count: their_decode(peer, prompt, count),
        },
        options.rounds,
        options.new_tokens,
    )
    batch = OmniBatch(input_ids=prompt, attention_mask=torch.ones_like(prompt))
    generation = generate(mixture, batch, SamplingOptions(max_new_tokens=options.new_tokens))
    generation.tokens()
    experts = generation.usage().experts_per_token or 0.0
    bandwidth = copy_bandwidth()
    print(f"{machine()}; medians of {options.rounds} interleaved rounds")
    print(f"first 16 tokens equal to transformers': {same}; copy {bandwidth / 1e9:.1f} GB/s; ")
    print(f"the upcycled model takes {experts:.2f} routed experts a token\n")
    print("| | tokens/s | against transformers | MB read a token | share of the limit |")
    print("|---|---|---|---|---|")
    for name, model in (
        ("ours, dense", dense),
        ("ours, upcycled", mixture),
        ("transformers, dense", dense),
    ):
        num_bytes = read_bytes(model, experts)
        per_second = 1e3 / result.median_ms(name)
        print(
            f"| {name} | {per_second:.1f} | {result.ratio('transformers, dense', name):.2f} "
            f"| {num_bytes / 1e6:.0f} | {per_second * num_bytes / bandwidth:.2f} |"
        )


def _measured(decoders: dict[str, Callable[[int], object]], rounds: int, new_tokens: int) -> Duel:
    """Seconds a token of every contestant, in turns."""
    runs = {name: decode_seconds(decode, new_tokens) for name, decode in decoders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            taken = run() / (new_tokens - 1)
            if number:  # the first round warms up
                seconds[name].append(taken)
    return Duel(seconds)


if __name__ == "__main__":
    main()
