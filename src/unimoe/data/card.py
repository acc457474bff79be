"""What is known of a data set as a whole: counted facts, and a card of prose around them.

In:  a `DataCard` by the builder, `SetFacts` counted while writing.  Out: `card.md`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unimoe.data.sample import OmniSample
from unimoe.data.splits import SPLITS, Split


@dataclass(frozen=True, kw_only=True, slots=True)
class DataCard:
    """What only the builder knows."""

    subject: str
    """What the samples show and ask, in a sentence or two."""
    source: str
    """Where media and words come from."""
    licence: str
    """Of the media and the words, and who made them."""
    split_rule: str
    """How train, validation and test were told apart."""
    notes: str = ""
    """What a user should know besides: limits, known faults."""


@dataclass(kw_only=True, slots=True)
class SetFacts:
    """Rules of a set and counts of what is in it."""

    name: str
    seed: int
    disjoint: list[str] = field(default_factory=list)
    held_out: dict[str, list[str]] = field(default_factory=dict)
    samples: Counter[str] = field(default_factory=Counter)
    tasks: dict[str, Counter[str]] = field(default_factory=dict)
    modalities: dict[str, Counter[str]] = field(default_factory=dict)
    media_files: Counter[str] = field(default_factory=Counter)
    media_bytes: Counter[str] = field(default_factory=Counter)

    def count(self, split: Split, sample: OmniSample) -> None:
        """Take a sample into account."""
        self.samples[split] += 1
        self.tasks.setdefault(sample.task, Counter())[split] += 1
        self.modalities.setdefault(sample.modalities, Counter())[split] += 1

    def row(self) -> dict[str, Any]:
        """The facts as one JSON object."""
        return {
            "name": self.name,
            "seed": self.seed,
            "disjoint": self.disjoint,
            "held_out": self.held_out,
            "samples": {split: self.samples[split] for split in SPLITS},
            "tasks": {task: dict(found) for task, found in sorted(self.tasks.items())},
            "media_files": dict(self.media_files),
            "media_bytes": dict(self.media_bytes),
        }


def write_card(path: Path, card: DataCard, facts: SetFacts) -> None:
    """Write the card as Markdown."""
    held_out = [f"{trait}: {', '.join(values)}" for trait, values in facts.held_out.items()]
    sections = [
        f"# {facts.name}\n\n{card.subject}",
        "![Examples](contact_sheet.png)",
        f"**Source.** {card.source}",
        f"**Licence.** {card.licence}",
        f"**Splits.** {card.split_rule}",
        f"**Never in two splits.** The same medium or sample{_listed(facts.disjoint)}.",
        f"**Never in training.** {'; '.join(held_out)}." if held_out else "",
        f"**Seed.** {facts.seed}",
        _table("task", facts.tasks),
        _table("input", facts.modalities),
        _media_table(facts),
        card.notes,
    ]
    path.write_text("\n\n".join(filter(None, sections)) + "\n", encoding="utf-8")


def _listed(traits: list[str]) -> str:
    return f", nor the same {', '.join(traits)}" if traits else ""


def _table(title: str, counts: dict[str, Counter[str]]) -> str:
    lines = [f"| {title} | {' | '.join(SPLITS)} |", f"|---|{'--:|' * len(SPLITS)}"]
    total: Counter[str] = sum(counts.values(), Counter())
    for name, found in [*sorted(counts.items()), ("together", total)]:
        lines.append(f"| {name or 'none'} | {' | '.join(f'{found[s]:,}' for s in SPLITS)} |")
    return "\n".join(lines)


def _media_table(facts: SetFacts) -> str:
    if not facts.media_files:
        return ""
    lines = ["| media | files | MB |", "|---|--:|--:|"]
    for kind, number in sorted(facts.media_files.items()):
        lines.append(f"| {kind} | {number:,} | {facts.media_bytes[kind] / 1e6:,.1f} |")
    return "\n".join(lines)
