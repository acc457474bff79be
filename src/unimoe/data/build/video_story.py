"""What happens in a made-up clip, second by second, and how it looks and sounds.

In:  sprites, sounds, a random generator.  Out: a `Story`; its frames and its sound track.
A model looks at about one frame a second. So whatever is asked about is on the screen for 1.3
seconds or longer, changes once and stays so, and no two things that are told apart are closer.
Axes: frames at `FRAME_RATE_FPS`, samples at 16 kHz.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from unimoe.config import AUDIO_RATE_HZ
from unimoe.data.build.canvas import (
    COLOURS,
    SHAPES,
    Spot,
    draw_shape,
    lay,
    make_background,
    shade,
)
from unimoe.data.build.scene_layout import Kind, Sprite

FRAME_RATE_FPS = 8
CLIP_SIDE = 144
Make = Literal["direction", "order", "count", "change"]
Direction = Literal["left", "right", "up", "down"]
Samples = Float32[np.ndarray, "samples"]
MAKES: tuple[Make, ...] = ("direction", "order", "count", "change")
DIRECTIONS: tuple[Direction, ...] = ("left", "right", "up", "down")
_STEPS: dict[Direction, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
}
_FADE_SECONDS = 0.05
_LONGEST_SOUND_SECONDS = 1.4
# From what changes on the screen to the next sound: nobody has to split hairs.
_GAP_SECONDS = 0.25
_WORD_SHARE = 0.35


class Noise(NamedTuple):
    """Something that can be heard."""

    name: str
    """Such as "bell", or the word that is said."""
    is_word: bool
    make: Callable[[random.Random], Samples]


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """Something on the screen."""

    kind: Kind
    spot: Spot
    appears: float = 0.0
    leaves: float
    moves: Direction | None = None
    turns: tuple[float, str] | None = None
    """When it takes which new colour."""


class Event(NamedTuple):
    """A sound in time, in seconds."""

    noise: Noise
    starts: float
    ends: float
    samples: Samples


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """All that happens in a clip."""

    make: Make
    seconds: int
    actors: tuple[Actor, ...]
    events: tuple[Event, ...] = field(default=(), repr=False)

    @property
    def key(self) -> str:
        """What happens, in words: two clips with the same key are the same to a viewer."""
        actors = [
            f"{a.kind.words} {a.spot.x // 6:.0f} {a.spot.y // 6:.0f} {a.appears:.1f} "
            f"{a.moves or ''} {a.turns or ''}"
            for a in self.actors
        ]
        return "; ".join([*actors, *(f"{e.noise.name} {e.starts:.1f}" for e in self.events)])

    @property
    def changes_at(self) -> list[float]:
        """When something comes, goes or turns, in order."""
        times = {t for a in self.actors for t in (a.appears, a.leaves)}
        times |= {a.turns[0] for a in self.actors if a.turns}
        return sorted({0.0, float(self.seconds), *times})


def tell_story(make: Make, sprites: Sequence[Sprite], rng: random.Random) -> Story:
    """A story of one make, still without sound."""
    seconds = rng.choice((4, 6))
    actors = {
        "direction": _moving,
        "order": _one_after_another,
        "count": _gathering,
        "change": _turning,
    }[make](seconds, sprites, rng)
    return Story(make=make, seconds=seconds, actors=tuple(actors))


def add_sounds(story: Story, noises: Sequence[Noise], rng: random.Random) -> Story:
    """The story with a sound in one or two of the times between its changes."""
    phases = [
        (start + _GAP_SECONDS, end - _GAP_SECONDS)
        for start, end in zip(story.changes_at, story.changes_at[1:], strict=False)
        if end - start >= _LONGEST_SOUND_SECONDS + 2 * _GAP_SECONDS
    ]
    if len(phases) == 1 and story.seconds >= 4:  # nothing changes: the halves are phases
        middle = story.seconds / 2
        phases = [(0.1, middle - 0.2), (middle + 0.2, story.seconds - 0.1)]
    chosen = rng.sample(phases, min(len(phases), rng.choice((1, 2, 2))))
    events = []
    for noise, (start, end) in zip(_draw_noises(noises, len(chosen), rng), chosen, strict=True):
        samples = _cut(noise.make(rng))
        length = len(samples) / AUDIO_RATE_HZ
        begins = rng.uniform(start, max(start, end - length))
        events.append(Event(noise, begins, begins + length, samples))
    ordered = tuple(sorted(events, key=lambda event: event.starts))
    return Story(make=story.make, seconds=story.seconds, actors=story.actors, events=ordered)


def draw_frames(
    story: Story, sprites: Sequence[Sprite], rng: random.Random
) -> list[UInt8[np.ndarray, "height width 3"]]:
    """All frames of the clip."""
    background = make_background(rng, CLIP_SIDE)
    looks = [_looks(actor, sprites, rng) for actor in story.actors]
    frames = []
    for index in range(story.seconds * FRAME_RATE_FPS):
        time = index / FRAME_RATE_FPS
        picture = background.copy()
        for actor, (before, after) in zip(story.actors, looks, strict=True):
            if actor.appears <= time < actor.leaves:
                is_turned = actor.turns is not None and time >= actor.turns[0]
                spot = _place(actor, time / story.seconds)
                lay(picture, after if is_turned else before, spot)
        frames.append(np.asarray(picture))
    return frames


def sound_track(story: Story, rng: random.Random) -> Samples:
    """The sound of the clip: its events over a faint hiss."""
    noise = np.random.default_rng(rng.randrange(2**63))
    track = noise.normal(0, 0.002, story.seconds * AUDIO_RATE_HZ).astype(np.float32)
    for event in story.events:
        start = round(event.starts * AUDIO_RATE_HZ)
        kept = event.samples[: len(track) - start]
        track[start : start + len(kept)] += rng.uniform(0.5, 0.9) * kept
    return np.clip(track, -1, 1)


def _moving(seconds: int, sprites: Sequence[Sprite], rng: random.Random) -> list[Actor]:
    """One thing crosses the screen; sometimes another stands still."""
    kinds = _kinds(rng.choice((1, 1, 2)), sprites, rng)
    direction = rng.choice(DIRECTIONS)
    side = rng.uniform(34, 52)
    right, down = _STEPS[direction]
    far = CLIP_SIDE / 2 - side / 2 - 2
    across = rng.uniform(-far, far)
    # It starts at the edge it leaves and ends at the other.
    spot = Spot(
        CLIP_SIDE / 2 - right * far + abs(down) * across,
        CLIP_SIDE / 2 - down * far + abs(right) * across,
        side,
    )
    actors = [Actor(kind=kinds[0], spot=spot, leaves=seconds + 1.0, moves=direction)]
    for kind in kinds[1:]:
        # Off the path: on the side of the screen that has more room.
        away = -far if across > 0 else far
        along = rng.uniform(-far, far)
        standing = Spot(
            CLIP_SIDE / 2 + abs(right) * along + abs(down) * away,
            CLIP_SIDE / 2 + abs(down) * along + abs(right) * away,
            rng.uniform(26, 34),
        )
        actors.append(Actor(kind=kind, spot=standing, leaves=seconds + 1.0))
    return actors


def _one_after_another(seconds: int, sprites: Sequence[Sprite], rng: random.Random) -> list[Actor]:
    """Two or three things come in turn; each goes when the next comes, or all stay."""
    number = 2 if seconds == 4 else rng.choice((2, 3))
    kinds = _kinds(number, sprites, rng)
    phase = seconds / number
    stays = rng.random() < 0.35
    spots = _spots(number, rng)
    return [
        Actor(
            kind=kind,
            spot=spots[index],
            appears=index * phase,
            leaves=seconds + 1.0 if stays or index == number - 1 else (index + 1) * phase,
        )
        for index, kind in enumerate(kinds)
    ]


def _gathering(seconds: int, sprites: Sequence[Sprite], rng: random.Random) -> list[Actor]:
    """One to six of a kind come at any time before the last second, and stay."""
    number = rng.randint(1, 6)
    kind = _kinds(1, sprites, rng)[0]
    times = sorted(rng.uniform(0, seconds - 1.4) for _ in range(number))
    start = times[0] if rng.random() < 0.5 else 0.0
    return [
        Actor(kind=kind, spot=spot, appears=max(0.0, time - start), leaves=seconds + 1.0)
        for spot, time in zip(_spots(number, rng), times, strict=True)
    ]


def _turning(seconds: int, sprites: Sequence[Sprite], rng: random.Random) -> list[Actor]:
    """A shape takes another colour about half-way; sometimes something else is there too."""
    old, new = rng.sample(tuple(COLOURS), 2)
    kind = Kind(rng.choice(SHAPES), old)
    number = rng.choice((1, 2))
    spots = _spots(number, rng)
    turn = (rng.uniform(0.48, 0.52) * seconds, new)
    actors = [Actor(kind=kind, spot=spots[0], leaves=seconds + 1.0, turns=turn)]
    others = [k for k in _kinds(3, sprites, rng) if k.name != kind.name]
    if number == 2 and others:
        actors.append(Actor(kind=others[0], spot=spots[1], leaves=seconds + 1.0))
    return actors


def _kinds(number: int, sprites: Sequence[Sprite], rng: random.Random) -> list[Kind]:
    """Kinds that differ in name and colour."""
    shapes, colours = rng.sample(SHAPES, number), rng.sample(tuple(COLOURS), number)
    names = rng.sample([sprite.concept.name for sprite in sprites], number)
    return [
        Kind(name) if rng.random() < 0.3 else Kind(shape, colour)
        for shape, colour, name in zip(shapes, colours, names, strict=True)
    ]


def _spots(number: int, rng: random.Random) -> list[Spot]:
    """Places in a grid of 3 x 3 cells that do not touch."""
    cell = CLIP_SIDE / 3
    cells = rng.sample([(x, y) for x in range(3) for y in range(3)], number)
    side = rng.uniform(30, 42)
    give = (cell - side) / 2
    return [
        Spot(
            (x + 0.5) * cell + rng.uniform(-give, give),
            (y + 0.5) * cell + rng.uniform(-give, give),
            side,
        )
        for x, y in cells
    ]


def _looks(
    actor: Actor, sprites: Sequence[Sprite], rng: random.Random
) -> tuple[Image.Image, Image.Image]:
    """Before and after it turns."""
    kind, side = actor.kind, round(actor.spot.side)
    if kind.colour is None:
        drawing = rng.choice(next(s for s in sprites if s.concept.name == kind.name).drawings)
        return drawing, drawing
    before = draw_shape(kind.name, shade(kind.colour, rng), side)
    if actor.turns is None:
        return before, before
    return before, draw_shape(kind.name, shade(actor.turns[1], rng), side)


def _place(actor: Actor, share: float) -> Spot:
    """Where it is when that share of the clip is over."""
    if actor.moves is None:
        return actor.spot
    right, down = _STEPS[actor.moves]
    path = CLIP_SIDE - actor.spot.side - 4
    spot = actor.spot
    return Spot(spot.x + right * path * share, spot.y + down * path * share, spot.side)


def _draw_noises(noises: Sequence[Noise], number: int, rng: random.Random) -> list[Noise]:
    """Different ones; words more seldom than effects, though there are more of them."""
    drawn: list[Noise] = []
    while len(drawn) < number:
        is_word = rng.random() < _WORD_SHARE
        noise = rng.choice([noise for noise in noises if noise.is_word == is_word])
        drawn += [noise] if noise not in drawn else []
    return drawn


def _cut(samples: Samples) -> Float32[np.ndarray, kept]:
    """Not too long, and ending softly."""
    kept = samples[: round(_LONGEST_SOUND_SECONDS * AUDIO_RATE_HZ)].copy()
    fade = min(len(kept), round(_FADE_SECONDS * AUDIO_RATE_HZ))
    kept[len(kept) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return kept
