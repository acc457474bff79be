import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.data.build.drawn_parts import make_sprites, write_styles
from unimoe.config import VideoConfig
from unimoe.data import read_manifest
from unimoe.data.build.video import build_video
from unimoe.data.build.video_questions import KINDS, description_of, ends_of, questions_on
from unimoe.data.build.video_story import (
    CLIP_SIDE,
    FRAME_RATE_FPS,
    MAKES,
    Noise,
    Samples,
    Story,
    _place,
    add_sounds,
    draw_frames,
    sound_track,
    tell_story,
)
from unimoe.media.timeline import frames_on_screen, num_frames_to_take
from unimoe.media.video import load_video

_CONFIG = VideoConfig(min_frames=4, max_frames=8, max_frames_with_audio=8)


def _tone(rng: random.Random) -> Samples:
    return np.sin(np.arange(24_000, dtype=np.float32) * rng.uniform(0.1, 0.5))


_NOISES = [Noise("bell", False, _tone), Noise("drum", False, _tone), Noise("seven", True, _tone)]
_NOISES += [Noise("red", True, _tone)]


@pytest.fixture(scope="module")
def stories() -> list[Story]:
    sprites = make_sprites()
    rngs = [random.Random(number) for number in range(160)]
    told = [tell_story(MAKES[i % 4], sprites, rng) for i, rng in enumerate(rngs)]
    return [add_sounds(story, _NOISES, rng) for story, rng in zip(told, rngs, strict=True)]


def _seen_at(story: Story) -> list[float]:
    """When a model looks."""
    times = np.arange(story.seconds * FRAME_RATE_FPS) / FRAME_RATE_FPS
    taken = num_frames_to_take(len(times), float(story.seconds), _CONFIG, has_audio=True)
    return [float(time) for time in times[frames_on_screen(times, taken)]]


def test_everything_shows_in_a_frame_a_second(stories: list[Story]) -> None:
    for story in stories:
        moments = _seen_at(story)
        for actor in story.actors:
            shown = [t for t in moments if actor.appears <= t < actor.leaves]
            assert shown
            if actor.turns:
                assert shown[0] < actor.turns[0] <= shown[-1]


def test_things_that_come_in_turn_are_seen_in_turn(stories: list[Story]) -> None:
    for story in stories:
        if story.make == "order":
            moments = _seen_at(story)
            first_seen = [min(t for t in moments if t >= a.appears) for a in story.actors]
            assert len(set(first_seen)) == len(first_seen)
            assert first_seen == sorted(first_seen)


def test_a_sound_lies_between_two_changes(stories: list[Story]) -> None:
    for story in stories:
        for event in story.events:
            if story.make in ("order", "change"):
                inside = [t for t in story.changes_at if event.starts - 0.2 < t < event.ends + 0.2]
                assert not inside
            assert 0 <= event.starts < event.ends <= story.seconds + 0.01


def test_the_track_sounds_where_the_events_are(stories: list[Story]) -> None:
    story = next(story for story in stories if story.events)
    track = sound_track(story, random.Random(0))
    loud = np.abs(track) > 0.1
    inside = np.zeros(len(track), bool)
    for event in story.events:
        inside[round(event.starts * 16_000) : round(event.ends * 16_000) + 1] = True

    assert not (loud & ~inside).any()
    assert loud.any()


@pytest.mark.parametrize(("way", "axis", "sign"), [("left", 1, -1), ("down", 0, 1)])
def test_things_move_as_said(stories: list[Story], way: str, axis: int, sign: int) -> None:
    story = next(s for s in stories if s.actors[0].moves == way and len(s.actors) == 1)
    frames = draw_frames(story, make_sprites(), random.Random(0))
    ground = np.median(np.stack(frames), axis=0)
    middles = [
        np.argwhere(np.abs(frame - ground).sum(-1) > 90)[:, axis].mean()
        for frame in (frames[2], frames[-3])
    ]

    assert (middles[1] - middles[0]) * sign > 40


def test_what_moves_begins_and_ends_where_it_is_told_to(stories: list[Story]) -> None:
    told = [(story, asked) for story in stories for asked in ends_of(story)]
    assert {asked.answer for _, asked in told} == {
        "On the left.",
        "On the right.",
        "At the top.",
        "At the bottom.",
    }
    for story, asked in told:
        mover = next(actor for actor in story.actors if actor.moves)
        assert mover.kind.name in asked.question
        place = _place(mover, 1.0 if asked.kind == "end" else 0.0)
        middle = CLIP_SIDE / 2
        seen = {
            "On the left.": place.x < middle,
            "On the right.": place.x > middle,
            "At the top.": place.y < middle,
            "At the bottom.": place.y > middle,
        }
        assert seen[asked.answer]


def test_before_and_after_agree_with_the_times(stories: list[Story]) -> None:
    checked = 0
    for story in stories:
        for asked in questions_on(story, random.Random(0))["when"]:
            if "before or after" in asked.question and story.actors[0].turns:
                event = next(e for e in story.events if f"{e.noise.name}" in asked.question)
                is_before = event.ends < story.actors[0].turns[0]
                assert asked.answer == ("Before." if is_before else "After.")
                checked += 1
    assert checked > 10


def test_every_kind_is_asked_and_no_answer_is_a_good_guess(stories: list[Story]) -> None:
    given: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for story in stories:
        for kind, found in questions_on(story, random.Random(0)).items():
            given[kind].update(asked.answer for asked in found[:1])

    shares = {k: max(answers.values()) / answers.total() for k, answers in given.items()}
    shares.pop("heard")  # only four sounds here
    assert max(shares.values()) <= 0.4


def test_a_description_tells_what_is_heard(stories: list[Story]) -> None:
    story = next(s for s in stories if [e.noise.name for e in s.events] == ["bell", "seven"])

    assert description_of(story, random.Random(0)).answer.endswith(
        'A bell, then the word "seven" can be heard.'
    )


def test_built_clips_play_and_share_nothing(tmp_path: Path) -> None:
    sources = write_styles(tmp_path, ("fluent-emoji", "twemoji"))
    build_video(sources, tmp_path / "set", scale=0.01, say=lambda _, __: _tone(random.Random(0)))

    train, test = (read_manifest(tmp_path / "set" / f"{name}.jsonl") for name in ("train", "test"))
    assert not {s.traits["clip"] for s in train} & {s.traits["clip"] for s in test}
    moving = [s for s in train if {"left", "right", "up", "down"} & set(s.traits["clip"].split())]
    assert len(moving) >= len(train) / 2  # direction is practised most
    sounding = next(s for s in test if s.traits["sound"] == "sound")
    film = load_video(tmp_path / "set" / sounding.videos[0], _CONFIG, has_audio=True)
    assert film.sound is not None
    assert 4 <= len(film.frames) <= 6
