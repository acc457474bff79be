"""The speech head of mini against its limits: a code at a time, and sound by the piece.

    python bench/speech.py [--rounds 5]

Weights are random: they cost what trained ones do.  A code's limit is the bytes of weights it reads
over the bandwidth of a large copy; that of the sound is its multiplications over the rate of a
large matrix product.  All in fp32, on one thread.
"""

import argparse
import time
from collections.abc import Callable

import torch
from decode import copy_bandwidth
from timing import Duel, machine
from torch.utils.flop_counter import FlopCounterMode

from unimoe.config import SpeakerConfig
from unimoe.heads.speaker import Speaker
from unimoe.nn.cache import KVCache
from unimoe.recipes.mini_speech import CODEC, TALKER

EXPERTS_A_CODE = 2
PLACES = (100, 900)
PIECE_CODES = 20
CALLS = 20


def bytes_a_code(speaker: Speaker) -> int:
    """Of the weights that one code reads: blocks, two of four experts, the head."""
    talker = speaker.talker.talker
    experts = [
        value
        for name, value in talker.layers.named_parameters()
        if name.endswith((".gate_up", ".down"))
    ]
    blocks = sum(value.nbytes for value in talker.layers.parameters())
    idle = sum(value.nbytes for value in experts) * (1 - EXPERTS_A_CODE / TALKER.talker.num_experts)
    return round(blocks - idle + talker.head.weight.nbytes)


def filled_cache(speaker: Speaker, rows: int) -> KVCache:
    """As after so many codes."""
    config = speaker.config.talker.talker
    cache = KVCache(config.num_layers, max_length=4096)
    with torch.no_grad():
        visible = torch.ones(1, rows, rows, dtype=torch.bool).tril()
        speaker.talker(torch.randn(1, rows, config.hidden_size), visible, cache=cache)
    return cache


def code_step(speaker: Speaker, place: int) -> Callable[[], object]:
    """Writes one code after another, from a place on."""
    cache = filled_cache(speaker, place)
    row = torch.randn(1, 1, speaker.config.talker.talker.hidden_size)

    @torch.no_grad()
    def step() -> object:
        states = speaker.talker(row, None, cache=cache)
        return speaker.talker.talker.head(states[0, -1])

    return step


def piece(speaker: Speaker) -> Callable[[], object]:
    """Decodes a piece of sound with its neighbours."""
    codes = torch.randint(CODEC.num_codes, (1, PIECE_CODES + 2 * speaker.codec.reach))

    @torch.no_grad()
    def decode() -> object:
        return speaker.codec.decode(codes)

    return decode


def product() -> Callable[[], object]:
    """A large matrix product."""
    one, other = torch.randn(1024, 1024), torch.randn(1024, 1024)
    return lambda: one @ other


def measured(contestants: dict[str, Callable[[], object]], rounds: int) -> Duel:
    """Seconds a call, in turns; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, call in contestants.items():
            started = time.process_time()
            for _ in range(CALLS):
                call()
            if number:
                seconds[name].append((time.process_time() - started) / CALLS)
    return Duel(seconds)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    speaker = Speaker(SpeakerConfig(talker=TALKER, codec=CODEC)).eval()
    contestants = {f"code {place}": code_step(speaker, place) for place in PLACES}
    contestants |= {"piece": piece(speaker), "product": product()}
    result = measured(contestants, options.rounds)
    num_bytes, bandwidth = bytes_a_code(speaker), copy_bandwidth()
    with FlopCounterMode(display=False) as counter:
        contestants["piece"]()
    flops = counter.get_total_flops()
    peak = 2 * 1024**3 / (1e-3 * result.median_ms("product"))
    print(f"{machine()}; time of the process, medians of {options.rounds} rounds")
    print(f"copy {bandwidth / 1e9:.1f} GB/s, matrix product {peak / 1e9:.1f} GFLOP/s\n")
    print("| | ms | MB or GFLOP | share of the limit | share of real time |")
    print("|---|---|---|---|---|")
    for place in PLACES:
        ms = result.median_ms(f"code {place}")
        limit_ms = 1e3 * num_bytes / bandwidth
        print(
            f"| code {place} | {ms:.2f} | {num_bytes / 1e6:.1f} MB | {limit_ms / ms:.2f} "
            f"| {1e-3 * ms * CODEC.codes_per_second:.2f} |"
        )
    ms = result.median_ms("piece")
    print(
        f"| {PIECE_CODES} codes as sound | {ms:.1f} | {flops / 1e9:.2f} GFLOP "
        f"| {flops / peak / (1e-3 * ms):.2f} "
        f"| {1e-3 * ms * CODEC.codes_per_second / PIECE_CODES:.2f} |"
    )


if __name__ == "__main__":
    main()
