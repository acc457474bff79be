"""Paragraphs of plain English that nothing learns from: is the language core as fluent as before?

In:  the folder of the part `debian-docs`.  Out: a data set with a test split only, one paragraph
a sample, said by the assistant.
"""

from __future__ import annotations

from pathlib import Path

from unimoe.data.build.corpora import read_paragraphs
from unimoe.data.card import DataCard
from unimoe.data.sample import OmniSample, Turn
from unimoe.data.splits import unit_hash
from unimoe.data.writer import DatasetWriter
from unimoe.parts import fetch, part

TASK = "prose"
_MIN_WORDS, _MAX_WORDS = 40, 180
_BOOKS = {"FAQ": "usr/share/doc/debian/FAQ", "history": "usr/share/doc/debian-history/docs"}

_CARD = DataCard(
    subject="Paragraphs of 40 to 180 words, for the perplexity of the model on plain text.",
    source="The Debian packages debian-faq 11.1 (frequently asked questions) and debian-history "
    "2.28 (a brief history of Debian), English pages.",
    licence="debian-faq: copies with its notice are permitted; debian-history: GPL-2 or later.",
    split_rule="Test only; no other set uses these packages.",
    notes="SmolLM2 may have read them when it was made: compare models with it, not with others.",
)


def build(folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Build the data set from its part, fetched if it is not there yet.

    Args:
        folder: where the set will stand.
        seed: of the order.
        scale: share of the paragraphs used.
    """
    build_prose(fetch(part("debian-docs")), folder, seed=seed, scale=scale)


def build_prose(source: Path, folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Build the data set from an unpacked part."""
    with DatasetWriter(folder, TASK, seed) as writer:
        found = [
            (book, paragraph)
            for book, place in _BOOKS.items()
            for paragraph in read_paragraphs(source / place)
            if _MIN_WORDS <= len(paragraph.split()) <= _MAX_WORDS
        ]
        found.sort(key=lambda pair: unit_hash(pair[1], seed))
        for number, (book, text) in enumerate(found[: max(1, round(len(found) * scale))]):
            sample = OmniSample(
                id=f"{TASK} {number}",
                conversations=(Turn("assistant", text),),
                task=TASK,
                traits={"book": book},
            )
            writer.add("test", sample)
        writer.close(_CARD)
