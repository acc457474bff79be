"""Figures: numbers that are measured, not judged item by item.

In and out: `Figure`; its row of the report, its object in JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isnan, nan
from typing import Any, Literal, NamedTuple

from unimoe.evals.intervals import bootstrap_ratio, wilson

FIGURES_HEADER = "| measured | items | value [95 %] | to reach | instead |\n|---|---|---|---|---|"

Unit = Literal["%", "dB", "s", ""]


class Measured(NamedTuple):
    """A number, and how far the truth could be from it."""

    value: float
    num_items: int
    low: float = nan
    """nan: no interval is known."""
    high: float = nan


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One number and what stands beside it."""

    title: str
    measured: Measured
    unit: Unit = ""
    """"%": the value is a share."""
    goal: float | None = None
    is_at_most: bool = False
    """The goal is not to be exceeded."""
    instead: Mapping[str, float] = field(default_factory=dict)
    """The same of others."""

    @property
    def is_reached(self) -> bool | None:
        """None: there is no goal."""
        if self.goal is None:
            return None
        value = self.measured.value
        return value <= self.goal if self.is_at_most else value >= self.goal


def mean_of(values: Sequence[float]) -> Measured:
    """The mean of one value an item."""
    low, high = bootstrap_ratio(values, [1] * len(values))
    return Measured(sum(values) / len(values) if values else nan, len(values), low, high)


def share_of(hits: Sequence[bool]) -> Measured:
    """How many of the items are."""
    low, high = wilson(sum(hits), len(hits))
    return Measured(sum(hits) / len(hits) if hits else nan, len(hits), low, high)


def excess_of(ours: Sequence[int], theirs: Sequence[int], units: Sequence[int]) -> Measured:
    """Errors a unit that we make beyond those of others, on the same items."""
    beyond = [one - other for one, other in zip(ours, theirs, strict=True)]
    low, high = bootstrap_ratio(beyond, units)
    return Measured(sum(beyond) / sum(units) if sum(units) else nan, len(units), low, high)


def figure_row(figure: Figure) -> str:
    """Its row below `FIGURES_HEADER`."""
    unit, (value, num_items, low, high) = figure.unit, figure.measured
    interval = "" if isnan(low) else f" [{_told(low, unit)}, {_told(high, unit)}]"
    instead = ", ".join(f"{who} {_told(other, unit)}" for who, other in figure.instead.items())
    told = f"{_told(value, unit)}{interval}"
    return f"| {figure.title} | {num_items} | {told} | {_goal(figure)} | {instead} |"


def figure_json(figure: Figure) -> dict[str, Any]:
    """As it is written; None for what is no number, which JSON cannot say."""
    measured = {
        key: None if isnan(value) else value for key, value in figure.measured._asdict().items()
    }
    return asdict(figure) | {"measured": measured, "reached": figure.is_reached}


def read_figure(written: Mapping[str, Any]) -> Figure:
    """The way back."""
    fields = {key: value for key, value in written.items() if key != "reached"}
    measured = Measured._make(
        nan if fields["measured"][key] is None else fields["measured"][key]
        for key in Measured._fields
    )
    return Figure(**(fields | {"measured": measured}))


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return "report"
    sign = "≤" if figure.is_at_most else "≥"
    told = "reached" if figure.is_reached else "missed"
    return f"{sign} {_told(figure.goal, figure.unit)}: {told}"


def _told(value: float, unit: Unit) -> str:
    if isnan(value):
        return "-"
    return f"{100 * value:.1f} %" if unit == "%" else f"{value:.2f} {unit}".rstrip()
