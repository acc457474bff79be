"""Words that packages ship, read: WordNet's glosses, question corpora, paragraphs of prose.

In:  the folders of the parts `wordnet`, `chatterbot` and `fortunes`.
Out: `Gloss`es, `Dialogue`s.
Source: WordNet 3.0 database files, wndb(5WN); ChatterBot corpus.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from unimoe.errors import DataError

_PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
# WordNet marks what is rude; mini learns none of it.
_RUDE = re.compile(
    r"\b(obscen|vulgar|slur|offensive|disparaging|derogatory|sex|genital|intercourse|racist|"
    r"ethnic|negro|prostitut|excrement|kill|murder|rape|nazi|suicid|drunk|whore|slut|penis|vagina|shit|fuck|bitch|bastard|damn|piss)",
    re.IGNORECASE,
)
_EXAMPLE = re.compile(r'"([^"]+)"')


class Gloss(NamedTuple):
    """What WordNet says of one meaning."""

    word: str
    """The first of its words, spaces instead of underscores."""
    part_of_speech: str
    definition: str
    examples: tuple[str, ...]

    @property
    def spoken_texts(self) -> tuple[str, ...]:
        """Definition and examples."""
        return (self.definition, *self.examples)


class Dialogue(NamedTuple):
    """A question and an answer to it."""

    topic: str
    question: str
    answer: str


def read_glosses(wordnet: Path) -> list[Gloss]:
    """All meanings whose gloss is decent.

    Raises:
        DataError: a file of the database is missing.
    """
    return [
        gloss
        for part_of_speech in _PARTS_OF_SPEECH
        for line in _lines(wordnet / "usr/share/wordnet" / f"data.{part_of_speech}")
        if not line.startswith("  ") and not _RUDE.search(line)
        for gloss in [_gloss(line, part_of_speech)]
    ]


def read_dialogues(chatterbot: Path) -> list[Dialogue]:
    """All pairs of the English corpus, in its order.

    Raises:
        DataError: the folder holds no corpus.
    """
    folder = chatterbot / "chatterbot_corpus" / "data" / "english"
    topics = sorted(folder.glob("*.yml"))
    if not topics:
        raise DataError(f"{folder}: no .yml files; need the package chatterbot-corpus unpacked")
    return [dialogue for path in topics for dialogue in _dialogues(path)]


def _dialogues(path: Path) -> Iterator[Dialogue]:
    for turns in yaml.safe_load(path.read_text("utf-8"))["conversations"]:
        words = [" ".join(str(turn).split()) for turn in turns]
        if len(words) >= 2 and not _RUDE.search(" ".join(words)):
            yield Dialogue(path.stem, words[0], words[1])


def _gloss(line: str, part_of_speech: str) -> Gloss:
    fields, _, text = line.partition(" | ")
    word = re.sub(r"\(\w+\)$", "", fields.split(" ")[4]).replace("_", " ")
    definition = _EXAMPLE.split(text)[0].strip().rstrip(";,:").strip()
    return Gloss(word, part_of_speech, definition, tuple(_EXAMPLE.findall(text)))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; need WordNet 3.0 unpacked") from error
