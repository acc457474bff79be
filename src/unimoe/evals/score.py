"""From verdicts to scores: share of right answers or of wrong words, with its interval.

In:  records of a task.  Out: `Score`; `PairedScore` for the same questions asked in two ways.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

from unimoe.evals.intervals import Interval, bootstrap_ratio, wilson
from unimoe.evals.judges import JudgeKind, form
from unimoe.evals.records import ItemRecord, Records


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One number and what is known about it."""

    value: float
    """Share of right answers, or wrong words per expected word; nan: no items."""
    interval: Interval
    """95 %."""
    num_items: int
    chance: float | None
    """What the best single answer to all questions would score; None: no such thing."""
    experts_per_token: float | None
    null_share: float | None
    seconds: float


def score_of(records: Records, judge: JudgeKind) -> Score:
    """The score of a task."""
    items = records.items
    is_wer = judge == "wer"
    return Score(
        value=_rate(items) if is_wer else 1 - _rate(items),
        interval=_wer_interval(items)
        if is_wer
        else wilson(sum(item.correct for item in items), len(items)),
        num_items=len(items),
        chance=None if is_wer else chance_of(items, judge),
        experts_per_token=_mean([item.experts_per_token for item in items]),
        null_share=_mean([item.null_share for item in items]),
        seconds=records.seconds,
    )


def scores_by_trait(records: Records, judge: JudgeKind, trait: str) -> dict[str, Score]:
    """The score of every value of a trait, such as every voice."""
    values = sorted({item.traits[trait] for item in records.items if trait in item.traits})
    return {
        value: score_of(
            Records(items=tuple(i for i in records.items if i.traits.get(trait) == value)), judge
        )
        for value in values
    }


def chance_of(items: Sequence[ItemRecord], judge: JudgeKind) -> float:
    """Share of questions that the best single answer is right for."""
    right: Counter[str] = Counter()
    for item in items:
        right.update({form(judge, answer) for answer in item.expected})
    return max(right.values(), default=0) / len(items) if items else nan


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedScore:
    """A score as a share of another one, over questions asked in both ways."""

    ratio: float
    interval: Interval
    num_pairs: int


def paired(
    items: Sequence[ItemRecord], reference: Sequence[ItemRecord], *, trait: str
) -> PairedScore:
    """Right answers among `items` per right answer among `reference`.

    Args:
        items: such as spoken questions.
        reference: such as the same questions typed.
        trait: names the question; samples of both that agree in it are a pair.
    """
    others = {item.traits[trait]: item for item in reference if trait in item.traits}
    pairs = [
        (item, others[item.traits[trait]]) for item in items if item.traits.get(trait) in others
    ]
    ours = [int(item.correct) for item, _ in pairs]
    theirs = [int(other.correct) for _, other in pairs]
    return PairedScore(
        ratio=sum(ours) / sum(theirs) if sum(theirs) else nan,
        interval=bootstrap_ratio(ours, theirs),
        num_pairs=len(pairs),
    )


def _rate(items: Sequence[ItemRecord]) -> float:
    units = sum(item.units for item in items)
    return sum(item.errors for item in items) / units if units else nan


def _wer_interval(items: Sequence[ItemRecord]) -> Interval:
    return bootstrap_ratio([item.errors for item in items], [item.units for item in items])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
