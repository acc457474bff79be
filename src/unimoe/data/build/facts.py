"""Questions with short answers that can be checked: sums, opposites, orders, kinds of things.

In:  the concepts that pictures show, WordNet's opposites, a random generator.
Out: `Asked`: question, answer as it is said, all that counts as right, kind.
Numbers stand as digits in what is typed and as words in what is spoken; answers are digits.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from unimoe.data.build.drawings import Concept
from unimoe.data.build.questions import Asked, short
from unimoe.data.build.sentences import number_words

_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_JANUARY_TO_DECEMBER = """January February March April May June July August September October
November December"""
_MONTHS = _JANUARY_TO_DECEMBER.split()
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_KINDS = {
    "animal": "an animal",
    "food": "food",
    "clothing": "clothing",
    "instrument": "a musical instrument",
    "plant": "a plant",
    "vehicle": "a vehicle",
    "building": "a building",
    "furniture": "furniture",
    "drink": "a drink",
    "tool": "a tool",
}
_STORIES = (
    ("{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?", "+"),
    ("There are {a} {things} in one box and {b} in another. How many are there together?", "+"),
    ("{name} had {a} {things} and gave away {b}. How many {things} are left?", "-"),
    ("Of {a} {things}, {b} are broken. How many {things} are whole?", "-"),
    ("{a} boxes hold {b} {things} each. How many {things} are there?", "*"),
    ("{name} buys {a} packs of {b} {things}. How many {things} is that?", "*"),
    ("{a} {things} are shared equally by {b} children. How many does each child get?", "/"),
    ("{name} puts {a} {things} into rows of {b}. How many rows are there?", "/"),
)
_THINGS = "apples books pens coins stamps balls cookies marbles stones cards cups eggs"
_STORY_THINGS = _THINGS.split()
_NAMES = "Anna Ben Carla David Emma Frank Grace Henry Lucy Oscar Nina Paul"
_STORY_NAMES = _NAMES.split()
_WORDS = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}


class Sum(NamedTuple):
    """A calculation with two whole numbers."""

    left: int
    sign: str
    right: int

    @property
    def result(self) -> int:
        """A whole number from 0 on."""
        if self.sign == "/":
            return self.left // self.right
        steps = {"+": self.left + self.right, "-": self.left - self.right}
        return steps.get(self.sign, self.left * self.right)


def draw_sum(rng: random.Random, sign: str, largest: int) -> Sum:
    """Numbers up to the largest, or 12 for products, that work out."""
    largest = largest if sign in "+-" else 12
    left, right = rng.randint(2, largest), rng.randint(2, largest)
    if sign == "-":
        left, right = max(left, right), min(left, right)
    return Sum(left * right, sign, right) if sign == "/" else Sum(left, sign, right)


def sums(rng: random.Random, *, is_spoken: bool, largest: int = 40) -> Iterator[Asked]:
    """Without end: calculations of one step, such as "What is 7 plus 5?"."""
    write: Callable[[int], str] = number_words if is_spoken else str
    while True:
        drawn = draw_sum(rng, rng.choice("++--*/"), largest)
        asked = f"{write(drawn.left)} {_WORDS[drawn.sign]} {write(drawn.right)}"
        question = rng.choice(("What is {}?", "How much is {}?")).format(asked)
        yield short(question, str(drawn.result), "sum")


def stories(rng: random.Random) -> Iterator[Asked]:
    """Without end: calculations told as a story, answered with the calculation and the result."""
    while True:
        pattern, sign = rng.choice(_STORIES)
        drawn = draw_sum(rng, sign, 30)
        question = pattern.format(
            a=drawn.left,
            b=drawn.right,
            name=rng.choice(_STORY_NAMES),
            things=rng.choice(_STORY_THINGS),
        )
        answer = f"{drawn.left} {sign} {drawn.right} = {drawn.result}."
        yield Asked(question, answer, (str(drawn.result), answer), "story")


def comparisons(rng: random.Random, *, is_spoken: bool) -> Iterator[Asked]:
    """Without end: which of two numbers is bigger."""
    write: Callable[[int], str] = number_words if is_spoken else str
    while True:
        one, other = rng.sample(range(1, 200), 2)
        is_bigger = rng.random() < 0.5
        word = "bigger" if is_bigger else "smaller"
        answer = max(one, other) if is_bigger else min(one, other)
        question = f"Which number is {word}, {write(one)} or {write(other)}?"
        yield short(question, str(answer), "comparison")


def orders() -> list[Asked]:
    """Neighbours among days, months, letters and numbers."""
    found = []
    for things, name in ((_DAYS, "day"), (_MONTHS, "month")):
        for index, thing in enumerate(things):
            after, before = things[(index + 1) % len(things)], things[index - 1]
            found.append(short(f"Which {name} comes after {thing}?", after, "order"))
            found.append(short(f"Which {name} comes before {thing}?", before, "order"))
    for one, other in itertools.pairwise(_LETTERS):
        found.append(short(f"Which letter comes after {one}?", other, "order"))
        found.append(short(f"Which letter comes before {other}?", one, "order"))
    for number in range(10, 100):
        words = number_words(number)
        found.append(short(f"Which number comes after {words}?", str(number + 1), "order"))
        found.append(short(f"Which number comes before {words}?", str(number - 1), "order"))
    return found


def opposites(pairs: Sequence[tuple[str, str]]) -> list[Asked]:
    """Words and their opposites, both ways."""
    accepted: dict[str, list[str]] = {}
    for one, other in pairs:
        accepted.setdefault(one, []).append(other)
        accepted.setdefault(other, []).append(one)
    return [
        Asked(
            f"What is the opposite of {word}?",
            f"{found[0].capitalize()}.",
            tuple(dict.fromkeys(found)),
            "opposite",
        )
        for word, found in accepted.items()
    ]


def kinds(concepts: Sequence[Concept], rng: random.Random) -> list[Asked]:
    """Of what kind a thing is, and what colour it has."""
    found = []
    for concept in concepts:
        if concept.category in _KINDS:
            true = _KINDS[concept.category]
            false = rng.choice([kind for kind in _KINDS.values() if kind != true])
            either = [true, false] if rng.random() < 0.5 else [false, true]
            question = f"Is {concept.phrase} {either[0]} or {either[1]}?"
            answer = Asked(question, f"{true[0].upper()}{true[1:]}.", (true,), "kind")
            found.append(answer)
            asked, truth = (true, "yes") if rng.random() < 0.5 else (false, "no")
            found.append(short(f"Is {concept.phrase} {asked}?", truth, "kind"))
        if concept.colour:
            question = f"What color does {concept.phrase} usually have?"
            found.append(short(question, concept.colour, "colour"))
    return found
