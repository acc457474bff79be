"""Fair timing on a noisy machine: contestants run in turn, ratios are taken round by round."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch


@dataclass(frozen=True)
class Duel:
    """Seconds a call of every contestant, one entry a round."""

    seconds: dict[str, list[float]]

    def median_ms(self, name: str) -> float:
        """Median milliseconds a call."""
        return 1e3 * statistics.median(self.seconds[name])

    def ratio(self, name: str, baseline: str) -> float:
        """Median over rounds of contestant / baseline: above 1 the contestant is slower."""
        pairs = zip(self.seconds[name], self.seconds[baseline], strict=True)
        return statistics.median(one / other for one, other in pairs)


def duel(contestants: Mapping[str, Callable[[], object]], *, rounds: int, round_s: float) -> Duel:
    """Time all contestants alternately, forwards and backwards through the list.

    Args:
        contestants: name to call.
        rounds: measured rounds, after one that is thrown away.
        round_s: seconds a contestant gets in a round; at least one call.
    """
    calls = {name: _calls_within(call, round_s) for name, call in contestants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        order = list(contestants) if number % 2 == 0 else list(reversed(contestants))
        for name in order:
            started = time.perf_counter()
            for _ in range(calls[name]):
                contestants[name]()
            seconds[name].append((time.perf_counter() - started) / calls[name])
    return Duel(seconds)


def _calls_within(call: Callable[[], object], budget_s: float) -> int:
    call()
    started = time.perf_counter()
    call()
    return max(1, int(budget_s / (time.perf_counter() - started)))


def machine() -> str:
    """One line that tells where and when a table was measured."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(": ")[2] if names else model
    return (
        f"{model}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{datetime.now(UTC):%Y-%m-%d}"
    )
