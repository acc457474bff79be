"""Spelling: words letter by letter, to be said whole: what reading asks of the core, in text alone.

In:  the part `wordnet`, for words in use.  Out: a data set of text alone.
A picture of text says its letters, one a token, and the core has to know which word they spell. In
text a word takes a quarter of the tokens, and there are many more words than are drawn. What the
test of reading keeps for itself is not among them.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from unimoe.data import DataCard, DatasetWriter, OmniSample, Split, SplitRatios, split_of
from unimoe.data.build.corpora import read_glosses
from unimoe.data.build.ocr import QUESTIONS, cased, common_words, parted_words, word_uses
from unimoe.data.sample import Turn
from unimoe.data.splits import unit_hash
from unimoe.parts import fetch, part

TASK = "spelling"
PARTS = ("wordnet",)
_NUM_SAMPLES: dict[Split, int] = {"train": 20_000, "validation": 200}
_RATIOS = SplitRatios(train=0.97, validation=0.03, test=0.0)
_PAIR_SHARE = 0.2

_CARD = DataCard(
    subject="Words of 2 to 10 letters, letter by letter, and the word; one in five is two words, "
    "as on two lines of a picture.",
    source="Words that WordNet 3.0 uses in its examples and definitions.",
    licence="WordNet licence.",
    split_rule="By the hash of the word; no test. The words that the test of the set ocr keeps for "
    "itself are left out, as are those of validation in training.",
    notes="Letters stand with a blank before each, as image tokens say them. Of single words, "
    "common ones come no more often than rare ones.",
)


def build(folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Build the data set from its part, fetched if it is not there yet.

    Args:
        folder: where the set will stand.
        seed: of the words and their letters.
        scale: share of the samples made.
    """
    build_spelling({name: fetch(part(name)) for name in PARTS}, folder, seed=seed, scale=scale)


def build_spelling(
    sources: Mapping[str, Path], folder: Path, *, seed: int = 0, scale: float = 1.0
) -> None:
    """Build the data set from unpacked parts, by part name.

    Raises:
        DataError: too few words.
    """
    texts = [text for gloss in read_glosses(sources["wordnet"]) for text in gloss.spoken_texts]
    drawn = parted_words(common_words(texts))
    words = sorted(words_in_use(texts) - {*drawn.new}, key=lambda word: unit_hash(word, seed))
    with DatasetWriter(folder, TASK, seed, disjoint=["own_text"]) as writer:
        for split, number in _NUM_SAMPLES.items():
            own = [word for word in words if split_of(f"{TASK} {word}", ratios=_RATIOS) == split]
            rng = random.Random(f"{seed} {TASK} {split}")
            for index in range(max(1, round(number * scale))):
                word = own[index % len(own)]
                writer.add(split, _sample(f"{split} {index}", word, drawn.known, rng))
        writer.close(_CARD)


def words_in_use(texts: Iterable[str]) -> set[str]:
    """Words of 2 to 10 small letters that occur twice or more."""
    uses = word_uses(texts, shortest=2, longest=10)
    return {word for word, count in uses.items() if count > 1}


def spelt(text: str) -> str:
    """Every letter with a blank before it."""
    return "".join(f" {letter}" for letter in text if letter != " ")


def _sample(key: str, word: str, known: Sequence[str], rng: random.Random) -> OmniSample:
    """A word, or two of those that are drawn most, and what it says."""
    is_pair = rng.random() < _PAIR_SHARE
    lines = rng.sample(known, 2) if is_pair else [word]
    case = rng.randrange(2**32)
    text = " ".join(cased(line, random.Random(case)) for line in lines)
    asked = f"{spelt(text)}\n{rng.choice(QUESTIONS)}"
    return OmniSample(
        id=f"{TASK} {key}",
        conversations=(Turn("user", asked), Turn("assistant", text)),
        task=TASK,
        answers=(text,),
        traits={"kind": "two"} if is_pair else {"kind": "word", "own_text": word},
    )
