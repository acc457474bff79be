"""Questions on one medium, and the conversation they make.

In:  questions with their answers.  Out: turns of a sample; choices without a favourite answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from unimoe.data.sample import Turn

NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Asked(NamedTuple):
    """A question and its answer."""

    question: str
    answer: str
    """As it is said."""
    accepted: tuple[str, ...]
    """All that counts as right, the best first."""
    kind: str = ""
    """Such as colour or count."""


def short(question: str, answer: str, kind: str) -> Asked:
    """A question answered in a word or two: "red" is said as "Red."."""
    return Asked(question, f"{capital(answer)}.", (answer,), kind)


def turns_of(
    asked: Sequence[Asked], medium: Literal["image", "video", "audio"]
) -> tuple[Turn, ...]:
    """The conversation; the medium stands before the first question."""
    turns = [
        turn
        for each in asked
        for turn in (Turn("user", each.question), Turn("assistant", each.answer))
    ]
    turns[0] = Turn("user", f"<{medium}>{asked[0].question}")
    return tuple(turns)


def capital(words: str) -> str:
    """With a capital letter at the start; the others stay."""
    return words[:1].upper() + words[1:]


def uncapital(words: str) -> str:
    """With a small letter at the start, as inside a sentence; "DNA" stays."""
    return words if words[1:2].isupper() else words[:1].lower() + words[1:]


class Balance:
    """Chooses, of questions that could be asked, one whose answer is rarest so far.

    Kept apart by kind, so that nobody scores by always giving the same answer.
    """

    def __init__(self) -> None:
        self._given: Counter[tuple[str, str]] = Counter()

    def choose(self, candidates: Sequence[Asked]) -> Asked:
        """One of them; it counts as asked from now on.

        Args:
            candidates: of one kind, at least one, in random order: ties go to the first.
        """
        chosen = min(candidates, key=lambda asked: self._given[asked.kind, asked.answer])
        self._given[chosen.kind, chosen.answer] += 1
        return chosen
