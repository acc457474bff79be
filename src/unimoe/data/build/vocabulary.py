"""More sentences for training, chosen so that common words are not met for the first time in use.

In:  what the set speech is made of.  Out: a data set like it, with a training split alone.
A model makes words it knows of words it never heard, and 5 of 100 words of the test of speech are
not in its training. The sentences here are taken for words that are rare so far: after the first
8,000 of them 0.6 of 100 were left. The others are there so that none is known by heart.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from unimoe.data.build.sentences import Sentence, split_of_sentence
from unimoe.data.build.speech import (
    PARTS,
    Spoken,
    clips_folder,
    speech_sentences,
    spoken_sample,
    training_plan,
)
from unimoe.data.build.voices import HELD_OUT_VOICES, Speakers
from unimoe.data.card import DataCard
from unimoe.data.writer import DatasetWriter
from unimoe.parts import fetch, part

_NUM_SENTENCES = 20_000
_MOST_HEARD = 5
_SHARES = {"hibari": 70, "slt": 8, "awb": 8, "kal": 4, "espeak-us": 3, "espeak-us-f2": 4,
           "espeak-gb-m3": 3}  # fmt: skip

_CARD = DataCard(
    subject="A recording of one sentence, and the sentence: more of the set speech, chosen for "
    "words that its training split holds rarely or not at all.",
    source="Sentences and training voices of the set speech, without Kokoro.",
    licence="As of the set speech.",
    split_rule="Sentences of training only, by the same hash as in the set speech.",
    notes="Seven of ten recordings are by hibari; about half are changed as in the set speech.",
)


def build(folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Build the data set from its parts, fetched if they are not there yet.

    Args:
        folder: where the set will stand.
        seed: of sentences and augmentation; that of the set speech.
        scale: share of the sentences used.
    """
    sources = {name: fetch(part(name)) for name in PARTS}
    speakers = Speakers(sources, clips_folder())
    build_vocabulary(sources, speakers, folder, seed=seed, scale=scale)


def build_vocabulary(
    sources: Mapping[str, Path],
    speakers: Speakers,
    folder: Path,
    *,
    seed: int = 0,
    scale: float = 1.0,
) -> None:
    """Build the data set from folders of parts."""
    pool = speech_sentences(sources, seed=seed)
    spoken = [each for plan in training_plan(pool, seed, 1.0) for each in plan.sentences]
    taken = {sentence.key for sentence in spoken}
    rest = [
        sentence
        for sentence in pool
        if sentence.key not in taken and split_of_sentence(sentence.text) == "train"
    ]
    count = max(1, round(_NUM_SENTENCES * scale))
    held_out = {"voice": HELD_OUT_VOICES}
    with DatasetWriter(
        folder, "vocabulary", seed, disjoint=["sentence"], held_out=held_out
    ) as writer:
        for sentence in rarest_first(rest, spoken, count):
            dealer = random.Random(f"{seed} voice {sentence.key}")
            name = dealer.choices(list(_SHARES), list(_SHARES.values()))[0]
            plan = Spoken((sentence,), name, "training" if name == "hibari" else "further training")
            writer.add("train", spoken_sample(writer, speakers, plan, "train", seed))
        writer.close(_CARD)


def rarest_first(
    pool: Sequence[Sentence], heard: Iterable[Sentence], count: int
) -> Iterator[Sentence]:
    """Sentences with words never heard, then with words heard once, and so on.

    Definitions wait: they are many, and begin alike.

    Args:
        pool: to choose from, in this order where nothing else tells sentences apart.
        heard: what was spoken already.
        count: how many, at most.
    """
    uses = Counter(word for sentence in heard for word in sentence.key.split())
    left = sorted(pool, key=lambda sentence: sentence.kind == "definition")
    for most in range(_MOST_HEARD):
        passed = []
        for sentence in left:
            words = sentence.key.split()
            if count == 0:
                return
            if all(uses[word] > most for word in words):
                passed.append(sentence)
                continue
            uses.update(words)
            count -= 1
            yield sentence
        left = passed
    yield from left[:count]
