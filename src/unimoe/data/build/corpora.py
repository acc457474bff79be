"""Words that packages ship, read: WordNet's glosses, question corpora, paragraphs of prose.

In:  the folders of the parts `wordnet`, `chatterbot` and `debian-docs`.
Out: `Gloss`es, `Dialogue`s, pairs of opposites, paragraphs.
Source: WordNet 3.0 database files, wndb(5WN); ChatterBot corpus.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import yaml

from unimoe.errors import DataError

_PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
# WordNet marks what is rude; mini learns none of it.
_RUDE = re.compile(
    r"\b(obscen|vulgar|slur|offensive|disparaging|derogatory|sex|genital|intercourse|racist|"
    r"ethnic|negro|prostitut|excrement|kill|murder|rape|nazi|suicid|abortion|tortur|drunk|whore|slut|penis|vagina|shit|fuck|bitch|bastard|damn|piss)",
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


def read_opposites(wordnet: Path, min_uses: int = 4) -> list[tuple[str, str]]:
    """Adjectives that WordNet calls antonyms of each other, each pair once, common words only.

    Args:
        wordnet: folder of the part.
        min_uses: of both words in the texts that WordNet's authors tagged.
    """
    uses: dict[str, int] = {}
    for line in _lines(wordnet / "usr/share/wordnet" / "cntlist.rev"):
        key, _, count = line.split(" ")
        word, _, sense = key.partition("%")
        if sense[0] in "35":
            uses[word] = uses.get(word, 0) + int(count)
    lines = [
        line
        for line in _lines(wordnet / "usr/share/wordnet" / "data.adj")
        if not line.startswith("  ") and not _RUDE.search(line)
    ]
    words = {line.split(" ")[0]: _words_of_entry(line) for line in lines}
    pairs = {
        (one, other) if one < other else (other, one)
        for line in lines
        for one, other in _antonyms(line, words)
        if min(uses.get(one, 0), uses.get(other, 0)) >= min_uses and one != other
    }
    return sorted(pairs)


def _words_of_entry(line: str) -> list[str]:
    fields = line.split(" ")
    count = int(fields[3], 16)
    return [re.sub(r"\(\w+\)$", "", word).lower() for word in fields[4 : 4 + 2 * count : 2]]


def _antonyms(line: str, words: Mapping[str, list[str]]) -> Iterator[tuple[str, str]]:
    """Pairs of plain words that the pointers `!` of an entry join."""
    fields = line.partition(" | ")[0].split(" ")
    start = 4 + 2 * int(fields[3], 16) + 1
    pointers = [fields[at : at + 4] for at in range(start, start + 4 * int(fields[start - 1]), 4)]
    for symbol, entry, _, ends in pointers:
        here, there = int(ends[:2], 16), int(ends[2:], 16)
        if symbol == "!" and here and there and entry in words:
            one, other = words[fields[0]][here - 1], words[entry][there - 1]
            if one.isalpha() and other.isalpha():
                yield one, other


def read_paragraphs(folder: Path) -> list[str]:
    """Paragraphs of plain English prose in the web pages of a folder, in their order.

    Raises:
        DataError: there are no pages.
    """
    pages = sorted(folder.rglob("*.en.html"))
    if not pages:
        raise DataError(f"{folder}: no pages named *.en.html; need its package unpacked")
    found = []
    for page in pages:
        reader = _Paragraphs()
        reader.feed(page.read_text("utf-8"))
        found += reader.found
    return list(dict.fromkeys(found))


class _Paragraphs(HTMLParser):
    """Collects what stands in <p>."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._words: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "p":
            self._words = []

    def handle_endtag(self, tag: str) -> None:
        if tag == "p" and self._words is not None:
            self.found.append(" ".join("".join(self._words).split()))
            self._words = None

    def handle_data(self, data: str) -> None:
        if self._words is not None:
            self._words.append(data)


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
