"""Sounds and music: what is heard, in which order, how often; what plays, and how.

In:  folders of the parts `tuxpaint` (animals) and `timgm6mb` (instruments); effects made here.
Out: a data set of clips of 1 to 6 seconds. Test sounds have pitches and paces that training leaves
     out, test melodies other notes, and some animals another recording.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
from jaxtyping import Float32

from unimoe.config import AUDIO_RATE_HZ
from unimoe.data.build.augment import EFFECTS as CHANGES
from unimoe.data.build.augment import augmented, repaced
from unimoe.data.build.effects import (
    EFFECTS,
    STROKES,
    Dice,
    leveled,
    make_effect,
    repeated,
)
from unimoe.data.build.questions import NUMBER_WORDS, Asked, capital, short, turns_of
from unimoe.data.build.soundfont import Note, SoundFont
from unimoe.data.card import DataCard
from unimoe.data.sample import Moment, OmniSample
from unimoe.data.splits import SPLITS, Split, SplitRatios, split_of, unit_hash
from unimoe.data.writer import DatasetWriter
from unimoe.errors import DataError
from unimoe.media.audio import load_audio
from unimoe.parts import fetch, part

Samples = Float32[np.ndarray, "_samples"]

NAME_QUESTION = "What do you hear?"
_NAME_QUESTIONS = (NAME_QUESTION, NAME_QUESTION, "What is this sound?", "Which sound is this?")
_INSTRUMENT_QUESTIONS = (NAME_QUESTION, "Which instrument is playing?", "What instrument is this?")
_PARTS = ("tuxpaint", "timgm6mb")
_SOUNDFONT = Path("usr/share/sounds/sf2/TimGM6mb.sf2")
_STAMPS = Path("usr/share/tuxpaint/stamps")
_MELODY_RATIOS = SplitRatios(train=0.8, validation=0.05, test=0.15)
_MAX_SECONDS = 6.0

# Clips of each kind in a split.
_COUNTS: Mapping[str, Mapping[Split, int]] = {
    "effect": {"train": 2000, "validation": 40, "test": 120},
    "animal": {"train": 1050, "validation": 28, "test": 70},
    "music": {"train": 1560, "validation": 36, "test": 120},
    "order": {"train": 900, "validation": 10, "test": 40},
    "count": {"train": 600, "validation": 10, "test": 40},
}

_CARD = DataCard(
    subject="A short sound: an effect, an animal, an instrument with a few notes, or two sounds "
    "one after the other. What is it, what came first, how often, rising or falling, fast or slow?",
    source="Effects are synthesised from their physics (20 classes). Animals: 14 classes from the "
    "sounds of tuxpaint-stamps-default 2022.06.04. Music: 12 instruments of the SoundFont "
    "TimGM6mb 1.3, played note by note.",
    licence="Effects: ours. Tux Paint stamps: GPL-2. TimGM6mb: GPL-2.",
    split_rule="Pitches, paces and colours of test sounds come from bands that training leaves "
    "out (three tenths of every range); melodies are split by the hash of their notes; where Tux "
    "Paint has a second recording of an animal (cow, sheep, pig, duck, bee), it is heard in the "
    "test only. The other nine animals have one recording: the test moves it to other pitches.",
    notes="About half of the training sounds are noisy, echoing, narrow or quiet, and three tenths "
    "of the others. One question a clip in validation and test.",
)


class Animal(NamedTuple):
    """A class of recorded sounds."""

    name: str
    phrase: str
    files: tuple[str, ...]
    """Under `animals`, or, after an @, under the stamps; the second is for the test."""


class Instrument(NamedTuple):
    """A class of music."""

    name: str
    phrase: str
    program: int
    low: int
    high: int
    """Keys it plays."""


INSTRUMENTS = (
    Instrument("piano", "a piano", 0, 48, 84),
    Instrument("xylophone", "a xylophone", 13, 65, 96),
    Instrument("organ", "an organ", 19, 48, 79),
    Instrument("accordion", "an accordion", 21, 53, 84),
    Instrument("guitar", "a guitar", 24, 43, 76),
    Instrument("violin", "a violin", 40, 57, 91),
    Instrument("harp", "a harp", 46, 48, 88),
    Instrument("choir", "a choir", 52, 50, 76),
    Instrument("trumpet", "a trumpet", 56, 55, 82),
    Instrument("saxophone", "a saxophone", 65, 52, 79),
    Instrument("clarinet", "a clarinet", 71, 52, 84),
    Instrument("flute", "a flute", 73, 62, 93),
)


class Clip(NamedTuple):
    """A sound and what can be asked about it, the question of the test first."""

    samples: Samples
    task: str
    asked: tuple[Asked, ...]
    traits: Mapping[str, str]
    moments: tuple[Moment, ...]


class SoundClass(NamedTuple):
    """Anything that has a name."""

    name: str
    phrase: str
    make: Callable[[Dice], Samples]
    traits: Mapping[str, str]


def build(folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Build the data set from its parts, fetched if they are not there yet.

    Args:
        folder: where the set will stand.
        seed: of everything drawn.
        scale: share of the clips made.
    """
    build_sounds({name: fetch(part(name)) for name in _PARTS}, folder, seed=seed, scale=scale)


def build_sounds(
    sources: Mapping[str, Path], folder: Path, *, seed: int = 0, scale: float = 1.0
) -> None:
    """Build the data set from folders of parts."""
    font = SoundFont(sources["timgm6mb"] / _SOUNDFONT)
    with DatasetWriter(folder, "sounds", seed, disjoint=["melody"]) as writer:
        for split in SPLITS:
            animals = animal_classes(sources["tuxpaint"], split)
            for kind, counts in _COUNTS.items():
                for index in range(max(1, round(counts[split] * scale))):
                    key = f"{split} {kind} {index}"
                    rng = np.random.default_rng(int(unit_hash(key, seed) * 2**53))
                    dice = Dice(rng, is_test=split == "test")
                    clip = _clip(kind, index, dice, animals, font, split, seed)
                    writer.add(split, _sample(writer, key, clip, split, rng))
        writer.close(_CARD)


def effect_classes() -> tuple[SoundClass, ...]:
    """The synthesised sounds."""
    return tuple(
        SoundClass(
            effect.name,
            effect.phrase,
            lambda dice, effect=effect: make_effect(effect, dice),  # type: ignore[misc]
            {},
        )
        for effect in EFFECTS
    )


def animal_classes(source: Path, split: Split) -> tuple[SoundClass, ...]:
    """The recorded sounds, by the recording that belongs to the split.

    Raises:
        DataError: a recording is missing.
    """
    text = (files("unimoe.data.build") / "animals.tsv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    animals = [Animal(row["name"], row["phrase"], tuple(row["files"].split())) for row in rows]
    return tuple(_animal_class(source, animal, split) for animal in animals)


def _animal_class(source: Path, animal: Animal, split: Split) -> SoundClass:
    file = animal.files[-1 if split == "test" else 0]
    within = file[1:] if file.startswith("@") else f"animals/{file}"
    path = source / _STAMPS / f"{within}.ogg"
    if not path.is_file():
        raise DataError(f"{path}: not there; need tuxpaint-stamps-default unpacked in {source}")
    recording = load_audio(path).samples
    return SoundClass(
        animal.name,
        animal.phrase,
        lambda dice: _recorded(recording, dice),
        {"recording": file},
    )


def _recorded(recording: Samples, dice: Dice) -> Samples:
    """A recording at another pitch, from somewhere, once or a few times."""
    longest = round(3 * AUDIO_RATE_HZ)
    pitch = dice.between(0.8, 1.25)
    moved: Samples = soxr.resample(recording, AUDIO_RATE_HZ * pitch, AUDIO_RATE_HZ)
    start = int(dice.rng.integers(0, max(1, len(moved) - longest)))
    moved = moved[start : start + longest]
    gap = np.zeros(round(dice.seconds(0.1, 0.5) * AUDIO_RATE_HZ), np.float32)
    most = max(1, min(3, longest // (len(moved) + len(gap))))
    times = int(dice.rng.integers(1, most + 1))
    return leveled(np.concatenate([moved, gap] * times))


def _clip(
    kind: str,
    index: int,
    dice: Dice,
    animals: Sequence[SoundClass],
    font: SoundFont,
    split: Split,
    seed: int,
) -> Clip:
    effects = effect_classes()
    if kind == "effect":
        return _named(effects[index % len(effects)], effects, "sound", dice)
    if kind == "animal":
        return _named(animals[index % len(animals)], animals, "sound", dice)
    if kind == "music":
        return _music(INSTRUMENTS[index % len(INSTRUMENTS)], index, font, dice, split, seed)
    if kind == "order":
        return _order((*effects, *animals), index, dice)
    return _count(index, dice)


def _named(shown: SoundClass, others: Sequence[SoundClass], task: str, dice: Dice) -> Clip:
    name = _naming(NAME_QUESTION, shown)
    is_shown = dice.rng.random() < 0.5
    other = others[int(dice.rng.integers(len(others)))]
    asked = shown if is_shown else other
    answer = "yes" if asked.name == shown.name else "no"
    presence = short(f"Do you hear {asked.phrase}?", answer, "presence")
    traits = {"sound": shown.name, **shown.traits}
    samples = shown.make(dice)
    moments = (_moment(shown.phrase, samples),)
    return Clip(samples, task, (name, presence), traits, moments)


def _moment(words: str, samples: Samples, start: int = 0) -> Moment:
    """Of samples that begin after so many others."""
    words = words.removeprefix("an ").removeprefix("a ")
    end = start + len(samples)
    return Moment(words, start / AUDIO_RATE_HZ, end / AUDIO_RATE_HZ)


def _naming(question: str, shown: SoundClass) -> Asked:
    noun = shown.phrase.split(" ")
    accepted = [shown.phrase, shown.name]
    if noun[0] in ("a", "an", "someone"):
        accepted += [" ".join(noun[:2]), " ".join(noun[1:])]
    return Asked(question, f"{capital(shown.phrase)}.", tuple(dict.fromkeys(accepted)), "name")


def _music(
    instrument: Instrument, index: int, font: SoundFont, dice: Dice, split: Split, seed: int
) -> Clip:
    is_fast = bool(dice.rng.random() < 0.5)
    keys = _melody(instrument, is_fast, dice, split, seed)
    gap = dice.seconds(0.16, 0.24) if is_fast else dice.seconds(0.55, 0.8)
    notes = [Note(key, 0.05 + i * gap, gap * 0.9) for i, key in enumerate(keys)]
    direction = "rise" if keys[-1] > keys[0] else "fall"
    pace = "fast" if is_fast else "slow"
    name = Asked(NAME_QUESTION, f"{capital(instrument.phrase)}.", (instrument.name,), "instrument")
    asked = [
        name._replace(accepted=(instrument.phrase, instrument.name)),
        short("Do the notes rise or fall?", direction, "direction"),
        short("Is the music fast or slow?", pace, "pace"),
        short("How many notes are played?", str(len(keys)), "note_count"),
    ]
    # Instruments and ways of playing take turns to be what the test asks.
    first = (index // len(INSTRUMENTS)) % 2 * (1 + index % 3)
    asked.insert(0, asked.pop(first))
    traits = {
        "sound": instrument.name,
        "melody": f"{' '.join(map(str, keys))} {'fast' if is_fast else 'slow'}",
    }
    task = "instrument" if first == 0 else "melody"
    samples = leveled(font.play(instrument.program, notes))
    told = f"{instrument.name} {direction} {pace} {NUMBER_WORDS[len(keys)]}"
    return Clip(samples, task, tuple(asked), traits, (_moment(told, samples),))


def _melody(
    instrument: Instrument, is_fast: bool, dice: Dice, split: Split, seed: int
) -> tuple[int, ...]:
    """Two to six rising or falling notes that belong to the split."""
    while True:
        num_notes = int(dice.rng.integers(2, 7 if is_fast else 6))
        steps = np.cumsum([0, *dice.rng.integers(2, 6, num_notes - 1)])
        if steps[-1] > instrument.high - instrument.low:
            continue
        start = int(dice.rng.integers(instrument.low, instrument.high - steps[-1] + 1))
        keys = tuple(int(start + step) for step in steps)
        keys = keys if dice.rng.random() < 0.5 else keys[::-1]
        if split_of(f"melody {keys} {is_fast}", seed, _MELODY_RATIOS) == split:
            return keys


def _order(classes: Sequence[SoundClass], index: int, dice: Dice) -> Clip:
    """Two sounds, one after the other."""
    first, last = (classes[i] for i in dice.rng.choice(len(classes), 2, replace=False))
    longest = round(2.4 * AUDIO_RATE_HZ)
    sounds = [shown.make(dice)[:longest] for shown in (first, last)]
    pause = np.zeros(round(dice.seconds(0.2, 0.6) * AUDIO_RATE_HZ), np.float32)
    asked = [
        _naming("What do you hear first?", first)._replace(kind="first"),
        _naming("What do you hear last?", last)._replace(kind="last"),
        _both(first, last),
    ]
    asked.insert(0, asked.pop(index % 2))
    traits = {"first": first.name, "last": last.name}
    samples = np.concatenate([sounds[0], pause, sounds[1]])
    later = len(sounds[0]) + len(pause)
    moments = (_moment(first.phrase, sounds[0]), _moment(last.phrase, sounds[1], later))
    return Clip(samples, "sound_order", tuple(asked), traits, moments)


def _both(first: SoundClass, last: SoundClass) -> Asked:
    answer = f"{first.phrase}, then {last.phrase}"
    return Asked("What do you hear, in order?", f"{capital(answer)}.", (answer,), "sequence")


def _count(index: int, dice: Dice) -> Clip:
    stroke = STROKES[index % len(STROKES)]
    count = 1 + (index // len(STROKES)) % 5
    asked = short(f"How many times does {stroke.phrase}?", str(count), "sound_count")
    traits = {"sound": stroke.name, "count": str(count)}
    samples = repeated(stroke, count, dice)
    moments = (_moment(f"{stroke.name} {NUMBER_WORDS[count]}", samples),)
    return Clip(samples, "sound_count", (asked,), traits, moments)


def _sample(
    writer: DatasetWriter, key: str, clip: Clip, split: Split, rng: np.random.Generator
) -> OmniSample:
    # Pace is part of the question, or drawn already.
    changes = tuple(change for change in CHANGES if change is not repaced)
    sounds = clip.samples[: round(_MAX_SECONDS * AUDIO_RATE_HZ)]
    changed = augmented(sounds, rng, share=0.5 if split == "train" else 0.3, effects=changes)
    path = writer.audio(key, changed, AUDIO_RATE_HZ)
    asked = list(clip.asked) if split == "train" else [clip.asked[0]]
    if split == "train":
        rng.shuffle(asked)
        asked = [_reworded(each, rng) for each in asked]
    return OmniSample(
        id=f"sounds {key}",
        conversations=turns_of(asked, "audio"),
        audios=(path,),
        task=clip.task,
        answers=asked[-1].accepted,
        traits={**clip.traits, "kind": asked[-1].kind},
        moments=clip.moments,
    )


def _reworded(asked: Asked, rng: np.random.Generator) -> Asked:
    if asked.question != NAME_QUESTION:
        return asked
    questions = _INSTRUMENT_QUESTIONS if asked.kind == "instrument" else _NAME_QUESTIONS
    return asked._replace(question=str(rng.choice(questions)))
