"""Clips: things that move, come, gather and turn, with sounds placed in time.

In:  parts of emoji, training styles only; made sounds; words spoken by hibari.
Out: a data set of clips of 4 or 6 seconds, half of them with sound.
Training asks up to six questions of a clip, validation and test one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from unimoe.config import AUDIO_RATE_HZ
from unimoe.data import DataCard, DatasetWriter, OmniSample, Split
from unimoe.data.build.drawings import TRAINING_STYLES, Drawings
from unimoe.data.build.effects import EFFECTS, Dice, Effect, make_effect
from unimoe.data.build.questions import Asked, Balance, turns_of
from unimoe.data.build.scene_layout import Sprite, read_sprites
from unimoe.data.build.speech import clips_folder
from unimoe.data.build.video_questions import (
    KINDS,
    SOUND_NAMES,
    description_of,
    ends_of,
    questions_on,
)
from unimoe.data.build.video_story import (
    CLIP_SIDE,
    FRAME_RATE_FPS,
    MAKES,
    Make,
    Noise,
    Samples,
    Story,
    add_sounds,
    draw_frames,
    sound_track,
    tell_story,
)
from unimoe.data.build.voices import Speakers, voice
from unimoe.parts import fetch, part

TASK = "video"
WORDS = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("red", "blue", "green", "yes", "no", "hello", "dog", "cat", "house", "water"),
)
_NUM_CLIPS: dict[Split, int] = {"train": 2400, "validation": 80, "test": 600}
# A direction shows in no frame alone, and takes the most practice: every second clip.
_TRAINING_KINDS = tuple(each for kind in KINDS[1:] for each in ("direction", kind))
_TRAINING_TURNS = 6
_DESCRIBED_SHARE = 0.5
_SOUND_SHARE = 0.4
_MAKES_FOR: dict[str, tuple[Make, ...]] = {
    "heard": MAKES,
    "when": ("order", "order", "change"),
}
# Nobody speaks alike in training and test.
_SPEEDS: dict[bool, tuple[float, ...]] = {False: (0.85, 0.95, 1.05), True: (0.9, 1.0)}

_CARD = DataCard(
    subject=f"Clips of 4 or 6 seconds, {CLIP_SIDE} x {CLIP_SIDE} pixels, {FRAME_RATE_FPS} frames a "
    "second: something moves, things come one after another, gather, or change colour. Many have "
    "sounds: effects and words, each within one stretch of time in which nothing changes. Asked "
    "are direction, order, number, colour before and after, what is heard, and what is heard or "
    "seen when.",
    source="Made for this set: shapes in eight colours, emoji of the styles that `naming` learns "
    "from, effects made from their physics, words spoken by hibari-tts.",
    licence="Fluent Emoji MIT; Noto Emoji Apache-2.0; Twemoji CC-BY-4.0; EmojiOne 2 CC-BY-4.0; "
    "speech Apache-2.0 (hibari-tts); the rest Apache-2.0, as this package.",
    split_rule="Each split makes its own clips from its own random numbers, and no clip comes "
    "twice. Effects of the test have pitches and paces that training leaves out; its words are "
    "spoken at other speeds.",
    notes="What is asked about shows in frames taken once a second.",
)


def build(folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Build the data set from its parts, fetched if they are not there yet.

    Args:
        folder: where the set will stand.
        seed: of all that happens.
        scale: share of the clips made.
    """
    sources = {name: fetch(part(name)) for name in TRAINING_STYLES}
    build_video(sources, folder, seed=seed, scale=scale)


def build_video(
    sources: Mapping[str, Path],
    folder: Path,
    *,
    seed: int = 0,
    scale: float = 1.0,
    say: Callable[[str, float], Samples] | None = None,
) -> None:
    """Build the data set from unpacked parts, by part name.

    Args:
        sources: folders of the drawing styles.
        folder: where the set will stand.
        seed: of all that happens.
        scale: share of the clips made.
        say: speaks a word at a speed; None: hibari does.
    """
    if say is None:
        speakers, hibari = Speakers({}, clips_folder()), voice("hibari")
        say = lambda word, speed: speakers.speak(hibari, f"{word}.", speed=speed)  # noqa: E731
    sprites = read_sprites(Drawings(sources), [s for s in TRAINING_STYLES if s in sources])
    with DatasetWriter(folder, TASK, seed, disjoint=["clip"]) as writer:
        for split, number in _NUM_CLIPS.items():
            balance = Balance()
            kinds = _TRAINING_KINDS if split == "train" else KINDS
            noises = _noises(say, is_test=split == "test")
            for index in range(max(1, round(number * scale))):
                key = f"{split} {index}"
                rng = random.Random(f"{seed} {TASK} {key}")
                kind = kinds[index % len(kinds)]
                story, possible = _story_to_ask(kind, sprites, noises, rng)
                asked = _asked(story, possible, kind, split, balance, rng)
                frames = draw_frames(story, sprites, rng)
                sound = (sound_track(story, rng), AUDIO_RATE_HZ) if story.events else None
                path = writer.video(key, frames, FRAME_RATE_FPS, sound)
                writer.add(split, _sample(key, path, story, asked))
        writer.close(_CARD)


def _story_to_ask(
    kind: str, sprites: Sequence[Sprite], noises: Sequence[Noise], rng: random.Random
) -> tuple[Story, dict[str, list[Asked]]]:
    """A story that has an answer to a question of this kind, and all that can be asked of it."""
    needs_sound = kind in ("heard", "when")
    while True:
        make = rng.choice(_MAKES_FOR[kind]) if needs_sound else _make_of(kind)
        story = tell_story(make, sprites, rng)
        if needs_sound or rng.random() < _SOUND_SHARE:
            story = add_sounds(story, noises, rng)
        possible = questions_on(story, rng)
        if possible[kind]:
            return story, possible


def _make_of(kind: str) -> Make:
    return next(make for make in MAKES if make == kind)


def _asked(
    story: Story,
    possible: Mapping[str, list[Asked]],
    kind: str,
    split: Split,
    balance: Balance,
    rng: random.Random,
) -> list[Asked]:
    """A question of this kind; to learn from, also others, and a description."""
    first = balance.choose(possible[kind])
    if split != "train":
        return [first]
    others = [asked for found in possible.values() for asked in found if asked != first]
    others += ends_of(story)
    chosen = [first, *rng.sample(others, min(len(others), _TRAINING_TURNS - 1))]
    rng.shuffle(chosen)
    if len(chosen) < _TRAINING_TURNS or rng.random() < _DESCRIBED_SHARE:
        chosen[_TRAINING_TURNS - 1 :] = [description_of(story, rng)]
    return chosen


def _noises(say: Callable[[str, float], Samples], *, is_test: bool) -> list[Noise]:
    """Effects of the split, and words; words are as many as effects by weight."""
    effects = [effect for effect in EFFECTS if effect.name in SOUND_NAMES]
    found = [
        Noise(effect.name, False, partial(_effect, effect, is_test=is_test)) for effect in effects
    ]
    return found + [Noise(word, True, partial(_word, say, word, is_test=is_test)) for word in WORDS]


def _effect(effect: Effect, rng: random.Random, *, is_test: bool) -> Samples:
    dice = Dice(np.random.default_rng(rng.randrange(2**63)), is_test=is_test)
    return make_effect(effect, dice)


def _word(
    say: Callable[[str, float], Samples], word: str, rng: random.Random, *, is_test: bool
) -> Samples:
    return say(word, rng.choice(_SPEEDS[is_test]))


def _sample(key: str, path: str, story: Story, asked: Sequence[Asked]) -> OmniSample:
    return OmniSample(
        id=f"{TASK} {key}",
        conversations=turns_of(asked, "video"),
        videos=(path,),
        task=TASK,
        answers=asked[-1].accepted,
        traits={
            "kind": asked[-1].kind,
            "sound": "sound" if story.events else "silent",
            "clip": story.key,
        },
    )
