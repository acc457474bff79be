"""Sentences to be spoken: clean English of 3 to 16 words, and the split each belongs to.

In:  the folders of the parts `wordnet` and `chatterbot`; patterns of `sentences.toml`; names of the
     concepts that pictures show.
Out: `Sentence`s: text as it is to be transcribed, with capitals and punctuation, no digits.
A sentence has one split whoever speaks it: it goes by the hash of its words alone.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import NamedTuple

from unimoe.data.build.corpora import Dialogue, Gloss
from unimoe.data.splits import Split, SplitRatios, split_of, unit_hash

MIN_WORDS, MAX_WORDS = 3, 16
_MAX_LETTERS = 100
RATIOS = SplitRatios(train=0.86, validation=0.04, test=0.10)

# Shares of what is drawn: half of it natural, and half in the words that mini is asked with.
SHARES = {
    "example": 0.32,
    "definition": 0.09,
    "question": 0.05,
    "image": 0.18,
    "everyday": 0.14,
    "command": 0.06,
    "number": 0.06,
    "name": 0.04,
    "short": 0.06,
}
_FILLS_PER_PATTERN = 150
_MAX_DEFINITION_WORDS = 10
_MIN_USES = 8

_SPEAKABLE = re.compile(r"[A-Z][a-z']*(?:,? [A-Za-z'][a-z']*|-[a-z]+)*[.?!]")
_FIELD = re.compile(r"\{([A-Za-z]+)(\d?)\}(s?)")
_BELOW_TWENTY = """zero one two three four five six seven eight nine ten eleven twelve thirteen
fourteen fifteen sixteen seventeen eighteen nineteen"""
_ONES = _BELOW_TWENTY.split()
_FROM_TWENTY = "twenty thirty forty fifty sixty seventy eighty ninety"
_TENS = ["zero", "ten", *_FROM_TWENTY.split()]
_PLURALS = {
    "man": "men",
    "woman": "women",
    "child": "children",
    "mouse": "mice",
    "goose": "geese",
    "foot": "feet",
    "tooth": "teeth",
    "leaf": "leaves",
    "knife": "knives",
    "wolf": "wolves",
    "scarf": "scarves",
}
_TO_TWENTIETH = """first second third fourth fifth sixth seventh eighth ninth tenth eleventh
twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"""
_ORDINALS = _TO_TWENTIETH.split()


class Sentence(NamedTuple):
    """What is spoken."""

    text: str
    kind: str
    """Where it comes from: one of `SHARES`."""

    @property
    def key(self) -> str:
        """Its words alone: what is heard of it."""
        return words_of(self.text)


def words_of(text: str) -> str:
    """Lowercase words without punctuation, numbers as they are spoken."""
    text = re.sub(r"\d{1,4}", lambda number: f" {number_words(int(number[0]))} ", text)
    return " ".join(re.findall(r"[a-z']+", text.lower()))


def split_of_sentence(text: str) -> Split:
    """The split of a sentence, whatever voice speaks it and whatever it is used for.

    Whatever the seed, too: prose is built with a new one for each run, beside speech that is not.
    """
    return split_of(f"sentence {words_of(text)}", ratios=RATIOS)


def sentence_pool(
    glosses: Sequence[Gloss], dialogues: Iterable[Dialogue], things: Iterable[str], *, seed: int = 0
) -> list[Sentence]:
    """All sentences, each once, in an order that looks random and is the same for the same seed.

    Args:
        glosses: of WordNet.
        dialogues: of the chatterbot corpus; questions are taken.
        things: names without article, such as "fire truck".
        seed: of the choice of words.
    """
    found: dict[str, Sentence] = {}
    nouns = [thing for thing in things if re.fullmatch("[a-z]+(?: [a-z]+)?", thing)]
    sources = (
        _of_glosses(glosses),
        _of_dialogues(dialogues),
        _of_patterns(nouns, _FILLS_PER_PATTERN, seed),
    )
    for source in sources:
        for sentence in source:
            if is_speakable(sentence):
                found.setdefault(sentence.key, sentence)
    return sorted(found.values(), key=lambda sentence: unit_hash(sentence.key, seed))


def draw_sentences(pool: Iterable[Sentence], split: Split, count: int) -> list[Sentence]:
    """The first sentences of a split, each kind with its share, mixed.

    What comes out for fewer is contained in what comes out for more, kind by kind.
    """
    left = {kind: round(count * share) for kind, share in SHARES.items()}
    drawn = []
    for sentence in pool:
        if left[sentence.kind] > 0 and split_of_sentence(sentence.text) == split:
            left[sentence.kind] -= 1
            drawn.append(sentence)
    return drawn


def is_speakable(sentence: Sentence) -> bool:
    """Plain words only, of a length that a clip holds."""
    least = 1 if sentence.kind == "short" else MIN_WORDS
    return (
        len(sentence.text) <= _MAX_LETTERS
        and least <= len(sentence.text.split()) <= MAX_WORDS
        and _SPEAKABLE.fullmatch(sentence.text) is not None
    )


def number_words(number: int) -> str:
    """0 to 9999 in words."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens] + (f"-{_ONES[ones]}" if ones else "")
    size, word = (1000, "thousand") if number >= 1000 else (100, "hundred")
    many, rest = divmod(number, size)
    return f"{number_words(many)} {word}" + (f" {number_words(rest)}" if rest else "")


def plural(words: str) -> str:
    """Several of it: "dress" is "dresses"; what is a plural already stays."""
    rest, _, word = words.rpartition(" ")
    if word in _PLURALS:
        word = _PLURALS[word]
    elif re.search("(ss|us|ch|sh|x|z)$", word):
        word += "es"
    elif re.search("[^aeiou]y$", word):
        word = f"{word[:-1]}ies"
    elif not word.endswith("s"):
        word += "s"
    return f"{rest} {word}" if rest else word


def _of_glosses(glosses: Sequence[Gloss]) -> Iterator[Sentence]:
    """Examples and short definitions without rare words, which voices guess at."""
    uses = Counter(
        word for gloss in glosses for word in words_of(" ".join(gloss.spoken_texts)).split()
    )
    for gloss in glosses:
        found = [Sentence(_closed(example), "example") for example in gloss.examples]
        if len(gloss.definition.split()) <= _MAX_DEFINITION_WORDS:
            text = f"The word {gloss.word} means {gloss.definition}."
            found.append(Sentence(text, "definition"))
        for sentence in found:
            if all(uses[word] >= _MIN_USES for word in sentence.key.split()):
                yield sentence


def _of_dialogues(dialogues: Iterable[Dialogue]) -> Iterator[Sentence]:
    for dialogue in dialogues:
        text = _closed(dialogue.question, "?" if _is_question(dialogue.question) else ".")
        yield Sentence(text, "question")


def _of_patterns(things: list[str], fills: int, seed: int) -> Iterator[Sentence]:
    template = tomllib.loads((files("unimoe.data.build") / "sentences.toml").read_text("utf-8"))
    lists: Mapping[str, list[str]] = {**template["words"], "thing": sorted(things)}
    for kind, patterns in template["patterns"].items():
        for pattern in patterns:
            rng = random.Random(f"{seed} {pattern}")
            for _ in range(fills):
                yield Sentence(_with_articles(_closed(_filled(pattern, lists, rng))), kind)


def _filled(pattern: str, lists: Mapping[str, list[str]], rng: random.Random) -> str:
    """The pattern with a word in each field, two fields of one list never the same."""
    used: set[str] = set()

    def word(field: re.Match[str]) -> str:
        name = field[1].lower()
        choices = [choice for choice in _choices(name, lists, rng) if choice not in used]
        chosen = rng.choice(choices)
        used.add(chosen)
        filled = plural(_filled(chosen, lists, rng)) if field[3] else _filled(chosen, lists, rng)
        return filled if field[1].islower() else filled[0].upper() + filled[1:]

    return _FIELD.sub(word, pattern)


def _choices(name: str, lists: Mapping[str, list[str]], rng: random.Random) -> list[str]:
    if name == "ordinal":
        return _ORDINALS
    if name == "year":
        return [
            f"{number_words(rng.randint(17, 20))} {number_words(rng.choice((*range(11, 100),)))}"
        ]
    if name in ("low", "high"):
        low, high = (2, 60) if name == "low" else (61, 999)
        return [number_words(rng.randint(low, high)) for _ in range(4)]
    return lists[name]


def _closed(text: str, end: str = ".") -> str:
    """With a capital at its start and a mark at its end."""
    text = " ".join(text.replace("\u2019", "'").split())
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else text.rstrip(",;:") + end


def _is_question(text: str) -> bool:
    starts = "who what when where why how which is are am do does did can could will would have"
    return text.lower().split(" ")[0] in starts.split()


def _with_articles(text: str) -> str:
    """A apple -> an apple."""
    return re.sub(r"\b([Aa]) (?=[aeiou](?!ni|ne))", r"\1n ", text)
