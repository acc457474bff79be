"""How much work speech is: seconds of work a second of sound, to the first sound, and a code.

In:  a speaker, texts.  Out: `Figure`s.
What counts is the time this process computed, on one thread, so that others on the machine do not
disturb: on an idle machine that is the time a listener waits.
"""

from collections.abc import Sequence
from statistics import median
from time import process_time

import torch

from unimoe.evals.figures import Figure, Measured, mean_of
from unimoe.heads.speaker import Speaker

_NUM_TEXTS = 10
_EARLY, _LATE = 100, 900
_AROUND = 20
"""Codes to either side whose cost is taken."""
_LETTERS = 380
"""So many take about 1000 codes."""


def measure_speed(speaker: Speaker, texts: Sequence[str]) -> list[Figure]:
    """Measure with some of the texts, in the first voice.

    Args:
        speaker: in evaluation mode.
        texts: sentences; in a row they also make the long text.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        timed = [_timed(speaker, text) for text in texts[:_NUM_TEXTS]]
        costs = code_seconds(speaker, _long_text(texts))
    finally:
        torch.set_num_threads(num_threads)
    late = min(_LATE, len(costs) - _AROUND)
    return [
        Figure(
            title="Speech: seconds of work a second of sound",
            measured=mean_of([work / sound for work, _, sound in timed]),
            goal=0.7,
            is_at_most=True,
        ),
        Figure(
            title="Speech: first sound after",
            measured=mean_of([first for _, first, _ in timed]),
            unit="s",
            goal=1.0,
            is_at_most=True,
        ),
        Figure(
            title=f"Speech: cost of code {late} by that of code {_EARLY}",
            measured=Measured(_cost_at(late, costs) / _cost_at(_EARLY, costs), len(costs)),
        ),
    ]


def code_seconds(speaker: Speaker, text: str) -> list[float]:
    """Seconds of work for every code of a text, without its sound."""
    costs = []
    began = process_time()
    for _ in speaker.write(text, voice=speaker.voices[0], seed=0):
        now = process_time()
        costs.append(now - began)
        began = now
    return costs


def _cost_at(place: int, costs: Sequence[float]) -> float:
    return median(costs[place - _AROUND : place + _AROUND])


def _timed(speaker: Speaker, text: str) -> tuple[float, float, float]:
    """Seconds of work in all, of work until the first sound, of sound."""
    began = process_time()
    first, num_samples = None, 0
    for piece in speaker.sound(speaker.write(text, voice=speaker.voices[0], seed=0)):
        first = first or process_time() - began
        num_samples += len(piece)
    work = process_time() - began
    return work, first or work, num_samples / speaker.sample_rate_hz


def _long_text(texts: Sequence[str]) -> str:
    words = " ".join(texts).split()
    while len(" ".join(words)) > _LETTERS:
        words.pop()
    return " ".join(words)
