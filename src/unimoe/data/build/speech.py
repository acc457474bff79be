"""Speech and what is said in it: many sentences, few voices, some of them never in training.

In:  folders of the parts of `voices`, `wordnet`, `chatterbot` and `asterisk`.
Out: a data set of one recording and its transcript a sample. In training half of the recordings
     sound as rooms and lines make them. The test holds, as trait "voices": other sentences by the
     training voice, by further training voices, by voices never heard, and recordings of a person.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unimoe.config import AUDIO_RATE_HZ
from unimoe.data.build.augment import augmented
from unimoe.data.build.corpora import read_dialogues, read_glosses
from unimoe.data.build.drawings import read_concepts
from unimoe.data.build.sentences import Sentence, draw_sentences, sentence_pool, words_of
from unimoe.data.build.voices import HELD_OUT_VOICES, VOICE_PARTS, Speakers, voice
from unimoe.data.card import DataCard
from unimoe.data.sample import OmniSample, Turn
from unimoe.data.splits import Split, unit_hash
from unimoe.data.writer import DatasetWriter
from unimoe.errors import DataError
from unimoe.media.audio import load_audio
from unimoe.parts import cache_directory, fetch, part

TASK = "asr"
PROMPT = "Transcribe the speech."
_TRAINING_PROMPTS = (
    PROMPT,
    PROMPT,
    "What is said?",
    "Write down what you hear.",
    "Transcribe this.",
    "What does the speaker say?",
)
HUMAN = "asterisk"
_FIRST = "hibari"
PARTS = ("wordnet", "chatterbot", "asterisk", *VOICE_PARTS)

# How many sentences of training and validation each voice speaks, all but the first about.
_NUM_TRAINING = {
    "hibari": 7000, "slt": 800, "awb": 800, "kal": 400,
    "espeak-us": 300, "espeak-us-f2": 300, "espeak-gb-m3": 300, "kokoro-alpha": 60,
}  # fmt: skip
_NUM_VALIDATION = {"hibari": 120, "slt": 25, "awb": 25, "espeak-us-f2": 20, "kokoro-alpha": 5}
_NUM_TRAINING_PAIRS, _NUM_TEST_PAIRS = 1200, 40
_NUM_TEST = {
    "hibari": 200,
    "slt": 40, "awb": 40, "kal": 20, "espeak-us": 20, "espeak-us-f2": 20, "espeak-gb-m3": 20,
    "rms": 80, "espeak-us-f5": 60, "kokoro-kumo": 40,
}  # fmt: skip

_CARD = DataCard(
    subject="A recording of one sentence, sometimes two, and the sentence.",
    source="Sentences: examples and definitions of WordNet 3.0, questions of chatterbot-corpus "
    "1.3.3, and own patterns. Voices: hibari-tts 0.2.1 (most of training), flite 2.2, eSpeak NG, "
    "Kokoro-82M. Human recordings, test only: prompts of asterisk-core-sounds-en 1.6.1 by Allison "
    "Smith, 8 kHz; their transcripts are ours.",
    licence="WordNet licence; chatterbot-corpus BSD; hibari and Kokoro Apache-2.0; flite BSD-like; "
    "eSpeak NG GPL-3.0-or-later (the program; its speech is used as training data); Asterisk "
    "prompts CC-BY-SA-3.0.",
    split_rule="By the hash of the words of a sentence, whoever speaks it: 86 % training, 4 % "
    "validation, 10 % test, of which a part is drawn. Test sentences by several voices are the "
    "same ones. What the human recordings say is nowhere else.",
    notes="About half of the training recordings are changed: another pace (and pitch), echo, "
    "noise from 6 to 30 dB below the speech, telephone band, tilt, level. Validation and test are "
    "clean. Rare words are left out, and numbers are written as words.",
)


class Spoken(NamedTuple):
    """A sentence, or two in a row, to be spoken by a voice."""

    sentences: tuple[Sentence, ...]
    voice: str
    group: str
    """Of voices: training, further training or held out; or training, two sentences."""

    @property
    def text(self) -> str:
        """What is said."""
        return " ".join(sentence.text for sentence in self.sentences)

    @property
    def kind(self) -> str:
        """Where it comes from."""
        return self.sentences[0].kind if len(self.sentences) == 1 else "two sentences"


class Recording(NamedTuple):
    """A sound file of a person and what it says."""

    file: str
    kind: str
    text: str


def build(folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Build the data set from its parts, fetched if they are not there yet.

    Args:
        folder: where the set will stand.
        seed: of sentences and augmentation.
        scale: share of the sentences used.
    """
    sources = {name: fetch(part(name)) for name in PARTS}
    speakers = Speakers(sources, clips_folder())
    build_speech(sources, speakers, folder, seed=seed, scale=scale)


def clips_folder() -> Path:
    """Where spoken sentences are kept."""
    return cache_directory() / "speech_clips"


def build_speech(
    sources: Mapping[str, Path],
    speakers: Speakers,
    folder: Path,
    *,
    seed: int = 0,
    scale: float = 1.0,
) -> None:
    """Build the data set from folders of parts."""
    people = read_recordings()
    pool = speech_sentences(sources, seed=seed)
    held_out = {"voice": {*HELD_OUT_VOICES, HUMAN}}
    with DatasetWriter(folder, "speech", seed, disjoint=["sentence"], held_out=held_out) as writer:
        plans: dict[Split, Iterator[Spoken]] = {
            "train": training_plan(pool, seed, scale),
            "validation": _apart_plan(pool, "validation", _NUM_VALIDATION, seed, scale),
            "test": _test_plan(pool, scale),
        }
        for split, plan in plans.items():
            for spoken in plan:
                writer.add(split, spoken_sample(writer, speakers, spoken, split, seed))
        for recording in people[: max(1, round(len(people) * scale))]:
            writer.add("test", _human_sample(writer, sources["asterisk"], recording))
        writer.close(_CARD)


def speech_sentences(sources: Mapping[str, Path], *, seed: int = 0) -> list[Sentence]:
    """Everything that may be spoken, without what the human recordings say."""
    said_by_people = {words_of(recording.text) for recording in read_recordings()}
    pool = sentence_pool(
        read_glosses(sources["wordnet"]),
        read_dialogues(sources["chatterbot"]),
        [concept.name for concept in read_concepts()],
        seed=seed,
    )
    return [sentence for sentence in pool if sentence.key not in said_by_people]


def read_recordings() -> list[Recording]:
    """The recordings of a person, in an order that mixes their kinds."""
    text = (files("unimoe.data.build") / "recordings.tsv").read_text("utf-8")
    rows = [Recording(*line.split("\t")) for line in text.splitlines()[1:]]
    return sorted(rows, key=lambda recording: unit_hash(recording.file))


def training_plan(pool: Sequence[Sentence], seed: int, scale: float) -> Iterator[Spoken]:
    """What is spoken for training, and by whom."""
    yield from _apart_plan(pool, "train", _NUM_TRAINING, seed, scale)
    yield from _pairs(pool, "train", _scaled(_NUM_TRAINING_PAIRS, scale))


def _pairs(pool: Sequence[Sentence], split: Split, count: int) -> Iterator[Spoken]:
    """Sentences of the first voice again, in twos: most are shorter than a clip of the encoder."""
    sentences = draw_sentences(pool, split, 2 * count)
    for pair in zip(sentences[::2], sentences[1::2], strict=False):
        yield Spoken(pair, _FIRST, "training, two sentences")


def _apart_plan(
    pool: Sequence[Sentence], split: Split, counts: Mapping[str, int], seed: int, scale: float
) -> Iterator[Spoken]:
    """The first voice speaks the first sentences, each other one some of those after."""
    start = _scaled(counts[_FIRST], scale)
    sentences = draw_sentences(pool, split, start)
    yield from (Spoken((sentence,), _FIRST, "training") for sentence in sentences)
    taken = {sentence.key for sentence in sentences}
    others = {name: _scaled(count, scale) for name, count in counts.items() if name != _FIRST}
    rest = [sentence for sentence in pool if sentence.key not in taken]
    for sentence in draw_sentences(rest, split, sum(others.values())):
        # By the sentence alone: no voice has a kind to itself, and one sentence more or less in
        # the pool changes no other clip.
        dealer = random.Random(f"{seed} voice {sentence.key}")
        name = dealer.choices(list(others), list(others.values()))[0]
        yield Spoken((sentence,), name, "further training")


def _test_plan(pool: Sequence[Sentence], scale: float) -> Iterator[Spoken]:
    """All voices speak the same sentences, from the first on, those who speak less fewer."""
    counts = {name: _scaled(number, scale) for name, number in _NUM_TEST.items()}
    sentences = draw_sentences(pool, "test", max(counts.values()))
    for name, number in counts.items():
        for sentence in sentences[:number]:
            yield Spoken((sentence,), name, _group(name))
    yield from _pairs(pool, "test", _scaled(_NUM_TEST_PAIRS, scale))


def _group(name: str) -> str:
    if name in HELD_OUT_VOICES:
        return "held out"
    return "training" if name == _FIRST else "further training"


def _scaled(count: int, scale: float) -> int:
    return max(1, round(count * scale))


def spoken_sample(
    writer: DatasetWriter, speakers: Speakers, spoken: Spoken, split: Split, seed: int
) -> OmniSample:
    """Let it be spoken; in training half of the recordings are changed."""
    key = f"{spoken.voice} {words_of(spoken.text)}"
    rng = np.random.default_rng(int(unit_hash(key, seed) * 2**32))
    said = [speakers.speak(voice(spoken.voice), each.text) for each in spoken.sentences]
    pause = np.zeros(round(rng.uniform(0.05, 0.4) * AUDIO_RATE_HZ), np.float32)
    samples = said[0] if len(said) == 1 else np.concatenate([said[0], pause, said[1]])
    prompt = PROMPT
    if split == "train":
        samples = augmented(samples, rng)
        prompt = str(rng.choice(_TRAINING_PROMPTS))
    path = writer.audio(key, samples, AUDIO_RATE_HZ)
    traits = {
        "voice": spoken.voice,
        "voices": spoken.group,
        "kind": spoken.kind,
        "sentence": words_of(spoken.text),
    }
    return asr_sample(f"{TASK} {key}", path, spoken.text, prompt, traits)


def _human_sample(writer: DatasetWriter, source: Path, recording: Recording) -> OmniSample:
    path = source / "usr/share/asterisk/sounds/en_US_f_Allison" / recording.file
    if not path.is_file():
        raise DataError(f"{path}: not there; need asterisk-core-sounds-en-wav 1.6.1 unpacked")
    sound = writer.audio(recording.file, load_audio(path).samples, AUDIO_RATE_HZ)
    traits = {
        "voice": HUMAN,
        "voices": "human",
        "kind": recording.kind,
        "sentence": words_of(recording.text),
    }
    return asr_sample(f"{TASK} {HUMAN} {recording.file}", sound, recording.text, PROMPT, traits)


def asr_sample(
    name: str, path: str, text: str, prompt: str, traits: Mapping[str, str]
) -> OmniSample:
    """A recording, and what is said in it."""
    return OmniSample(
        id=name,
        conversations=(Turn("user", f"<audio>{prompt}"), Turn("assistant", text)),
        audios=(path,),
        task=TASK,
        answers=(text,),
        traits=traits,
    )
