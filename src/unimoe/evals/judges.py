"""Judges: is this answer right?

In:  the accepted answers and what was said.  Out: `Judgement`: errors out of so many units, one
unit an answer, or a word of a transcript.

    exact    "It is a Blue square."   accepts "blue square"      wording aside
    number words count as digits      "twenty-one" = "21"
    name     "cherries", "icecream"   accept "cherry", "ice cream"
    literal  "Open 24"                accepts "open 24" only     for text that is read
    yes_no   "Yes, it is."            accepts "yes"
    mention  "I hear a dog barking."  accepts "dog"          for models that talk too much
    wer      wrong words, after the normaliser of Whisper

Source: the normaliser is transformers' `EnglishTextNormalizer`; its British to American spellings
come from the sources of openai-whisper (docs/sources.md#evals).
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import jiwer
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from unimoe.errors import DataError

JudgeKind = Literal["exact", "name", "literal", "yes_no", "mention", "wer"]

_LEAD_IN = re.compile(
    r"^(?:(?:well|yes|no) )?(?:it s|it is|it was|this is|that is|these are|they are|there is"
    r"|there are|there was|there were|i (?:can )?(?:see|hear)|the answer is|you (?:can )?hear) "
)
_ARTICLES = {"a", "an", "the"}
_BELOW_TWENTY = """zero one two three four five six seven eight nine ten eleven twelve thirteen
fourteen fifteen sixteen seventeen eighteen nineteen"""
_ONES = {word: number for number, word in enumerate(_BELOW_TWENTY.split())}
_FROM_TWENTY = "twenty thirty forty fifty sixty seventy eighty ninety"
_TENS = {word: 10 * tens for tens, word in enumerate(_FROM_TWENTY.split(), start=2)}


class Judgement(NamedTuple):
    """What a judge found."""

    errors: int
    units: int

    @property
    def is_correct(self) -> bool:
        """Nothing wrong at all."""
        return self.errors == 0


class Judges:
    """All judges.

    Args:
        spelling: British spelling -> American; None: no transcripts will be judged.
    """

    def __init__(self, spelling: Mapping[str, str] | None = None) -> None:
        self._spelling = spelling

    def judge(self, kind: JudgeKind, accepted: Sequence[str], got: str) -> Judgement:
        """Judge one answer; the accepted answer that fits best counts.

        Raises:
            DataError: no answer is accepted, or one is empty.
        """
        if not accepted or not all(answer.strip() for answer in accepted):
            raise DataError(
                f"accepted answers are {list(accepted)!r}; need at least one, not empty"
            )
        if kind == "wer":
            return min((self._words(answer, got) for answer in accepted), key=_error_rate)
        forms = {form(kind, answer) for answer in accepted}
        said = form(kind, got)
        if kind == "mention":
            is_right = any(f" {wanted} " in f" {said} " for wanted in forms)
        else:
            is_right = said in forms
        return Judgement(int(not is_right), 1)

    @cached_property
    def _normalizer(self) -> EnglishTextNormalizer:
        if self._spelling is None:
            raise DataError("transcripts are to be judged: give the judges the spelling table")
        return EnglishTextNormalizer(dict(self._spelling))

    def _words(self, expected: str, got: str) -> Judgement:
        expected, got = self._normalizer(expected), self._normalizer(got)
        if not expected.strip():  # nothing but noise words such as "hmm"
            return Judgement(len(got.split()), max(len(got.split()), 1))
        found = jiwer.process_words(expected, got)
        errors = found.substitutions + found.deletions + found.insertions
        return Judgement(errors, found.hits + found.substitutions + found.deletions)


def read_spelling(path: Path) -> dict[str, str]:
    """The spelling table of a JSON file.

    Raises:
        DataError: the file holds something else.
    """
    table = json.loads(path.read_text("utf-8"))
    if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
        raise DataError(f"{path}: need an object of British to American spellings")
    return table


def form(kind: JudgeKind, text: str) -> str:
    """What of an answer counts: two answers of the same form are the same to the judge."""
    if kind == "yes_no":
        return "".join(re.findall(r"\w+", text.casefold())[:1])
    if kind == "literal":
        return _literal(text)
    return _name(text) if kind == "name" else plain(text)


def plain(text: str) -> str:
    """An answer without its wording: case, punctuation, articles, lead-ins; numbers as digits.

    >>> plain("It's a Blue square!")
    'blue square'
    >>> plain("There are twenty-one of them.")
    '21 of them'
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub(r"(?<=\d)[,.](?=\d)|[%°]", lambda match: match[0].replace(",", ""), text)
    text = re.sub(r"[^\w%°.]|\.(?!\d)|_", " ", text)
    text = _LEAD_IN.sub("", " ".join(text.split()) + " ")
    return " ".join(_with_digits([word for word in text.split() if word not in _ARTICLES]))


def _literal(text: str) -> str:
    """Case, blanks and what stands around the text do not count."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(text.split()).strip(" \"'.\u2018\u2019\u201c\u201d")


def _name(text: str) -> str:
    """Also without blanks, and without the plural of the last word."""
    words = plain(text).replace(" ", "")
    for ending, singular in (("ies", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch")):
        if words.endswith(ending):
            return words.removesuffix(ending) + singular
    return words if words.endswith("ss") else words.removesuffix("s")


def _with_digits(words: list[str]) -> list[str]:
    """Number words up to ninety-nine as digits."""
    digits: list[str] = []
    tens: int | None = None
    for word in words:
        if tens is not None and 0 < _ONES.get(word, 0) < 10:
            digits[-1] = str(tens + _ONES[word])
            tens = None
            continue
        tens = _TENS.get(word)
        number = _ONES.get(word) if tens is None else tens
        digits.append(word if number is None else str(number))
    return digits


def _error_rate(judgement: Judgement) -> float:
    return judgement.errors / judgement.units
