"""Sentences read aloud by the voices that mini speaks with, clean and at 24 kHz.

In:  folders of the parts of `voices`, `wordnet` and `chatterbot`.
Out: a data set of a sentence and its recording a sample. Codec and talker learn from it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unimoe.data.build.sentences import Sentence, draw_sentences, words_of
from unimoe.data.build.speech import PARTS, speech_sentences
from unimoe.data.build.voices import Speakers, voice
from unimoe.data.card import DataCard
from unimoe.data.sample import OmniSample, Turn
from unimoe.data.splits import Split
from unimoe.data.writer import DatasetWriter
from unimoe.parts import cache_directory, fetch, part

TASK = "read_aloud"
SAMPLE_RATE_HZ = 24_000
VOICES = ("hibari", "slt", "awb")
"""The first speaks most of the training."""
ADAPTED_VOICE = "rms"
"""Never in training: what adapting to a new voice is tried with."""

_NUM_TRAINING = {"hibari": 14_000, "slt": 2_000, "awb": 2_000}
_NUM_PAIRS = 2_000
_NUM_VALIDATION, _NUM_TEST, _NUM_ADAPTED_TEST = 60, 120, 400

_CARD = DataCard(
    subject="A sentence, sometimes two, and a recording of it at 24 kHz.",
    source="Sentences of the set speech. Voices: hibari-tts 0.2.1 (24 kHz), flite 2.2 slt and awb "
    "(16 kHz, so nothing above 8); rms of flite in the test alone.",
    licence="As of the set speech: WordNet licence, BSD; hibari Apache-2.0, flite BSD-like.",
    split_rule="By the hash of the words of a sentence, whoever speaks it, as in the set speech. "
    "The test sentences are read by every voice.",
    notes="Nothing is changed in the recordings but their level and the silence around them.",
)


class Reading(NamedTuple):
    """One or two sentences, and who reads them."""

    sentences: tuple[Sentence, ...]
    voice: str

    @property
    def text(self) -> str:
        """What is read."""
        return " ".join(sentence.text for sentence in self.sentences)


def build(folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Build the data set from its parts, fetched if they are not there yet.

    Args:
        folder: where the set will stand.
        seed: of the choice of sentences.
        scale: share of the sentences used.
    """
    sources = {name: fetch(part(name)) for name in PARTS}
    kept = cache_directory() / "speech_clips_24_khz"
    speakers = Speakers(sources, kept, sample_rate_hz=SAMPLE_RATE_HZ)
    build_read_aloud(sources, speakers, folder, seed=seed, scale=scale)


def build_read_aloud(
    sources: Mapping[str, Path],
    speakers: Speakers,
    folder: Path,
    *,
    seed: int = 0,
    scale: float = 1.0,
) -> None:
    """Build the data set from folders of parts."""
    pool = speech_sentences(sources, seed=seed)
    plans: dict[Split, Iterator[Reading]] = {
        "train": _training(pool, seed, scale),
        "validation": _by_everyone(pool, "validation", _NUM_VALIDATION, VOICES, scale),
        "test": _test(pool, scale),
    }
    with DatasetWriter(
        folder, TASK, seed, disjoint=["sentence"], held_out={"voice": {ADAPTED_VOICE}}
    ) as writer:
        for split, plan in plans.items():
            for reading in plan:
                writer.add(split, _sample(writer, speakers, reading))
        writer.close(_CARD)


def _training(pool: Sequence[Sentence], seed: int, scale: float) -> Iterator[Reading]:
    """Other sentences for every voice; those of pairs are read alone too."""
    counts = {name: max(2, round(count * scale)) for name, count in _NUM_TRAINING.items()}
    drawn = draw_sentences(pool, "train", sum(counts.values()))
    random.Random(f"{seed} read aloud").shuffle(drawn)
    start = 0
    for name, count in counts.items():
        yield from (Reading((each,), name) for each in drawn[start : start + count])
        start += count
    paired = drawn[: 2 * max(1, round(_NUM_PAIRS * scale))]
    for pair in zip(paired[::2], paired[1::2], strict=False):
        yield Reading(pair, VOICES[0])


def _test(pool: Sequence[Sentence], scale: float) -> Iterator[Reading]:
    yield from _by_everyone(pool, "test", _NUM_TEST, VOICES, scale)
    yield from _by_everyone(pool, "test", _NUM_ADAPTED_TEST, (ADAPTED_VOICE,), scale)


def _by_everyone(
    pool: Sequence[Sentence],
    split: Split,
    count: int,
    voices: Sequence[str],
    scale: float,
) -> Iterator[Reading]:
    drawn = draw_sentences(pool, split, max(2, round(count * scale)))
    for name in voices:
        yield from (Reading((each,), name) for each in drawn)


def _sample(writer: DatasetWriter, speakers: Speakers, reading: Reading) -> OmniSample:
    key = f"{reading.voice} {words_of(reading.text)}"
    samples = speakers.speak(voice(reading.voice), reading.text)
    path = writer.audio(key, samples, SAMPLE_RATE_HZ, kept_rate_hz=SAMPLE_RATE_HZ)
    return OmniSample(
        id=f"{TASK} {key}",
        conversations=(Turn("user", reading.text), Turn("assistant", "<audio>")),
        audios=(path,),
        task=TASK,
        answers=(reading.text,),
        traits={"voice": reading.voice, "sentence": words_of(reading.text)},
    )
