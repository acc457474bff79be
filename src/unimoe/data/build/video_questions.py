"""What can be asked of a made-up clip, with the one right answer.

In:  a story.  Out: questions by kind; a description.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from unimoe.data.build.questions import NUMBER_WORDS, Asked, capital, short
from unimoe.data.build.scene_layout import Kind
from unimoe.data.build.scene_questions import plural, with_article
from unimoe.data.build.video_story import Actor, Direction, Event, Noise, Story

KINDS = ("direction", "order", "count", "change", "heard", "when")
_WAYS: dict[Direction, tuple[str, ...]] = {
    "left": ("left", "to the left"),
    "right": ("right", "to the right"),
    "up": ("up", "upward", "upwards", "to the top"),
    "down": ("down", "downward", "downwards", "to the bottom"),
}


class SoundName(NamedTuple):
    """How a sound is named."""

    said: str
    others: tuple[str, ...]


SOUND_NAMES = {
    "bell": SoundName("a bell", ("bell ringing", "bell rings", "ringing bell")),
    "drum": SoundName("a drum", ("drums", "drumming", "drum beat")),
    "telephone": SoundName("a telephone", ("phone", "telephone ringing", "phone ringing")),
    "horn": SoundName("a car horn", ("horn", "car", "honk", "honking")),
    "whistle": SoundName("a whistle", ("whistling", "someone whistling")),
    "siren": SoundName("a siren", ("sirens",)),
    "knocking": SoundName("knocking", ("knock", "someone knocking", "knocks")),
    "bird": SoundName("a bird", ("birds", "bird singing", "birdsong")),
    "alarm": SoundName("a beep", ("alarm", "beeping", "beeps", "alarm beeping")),
    "clapping": SoundName("clapping", ("claps", "someone clapping", "applause")),
}
"""Of effects; a word that is said names itself."""


def questions_on(story: Story, rng: random.Random) -> dict[str, list[Asked]]:
    """All questions of each kind that have one right answer, in random order."""
    makers = (_directions, _orders, _counts, _changes, _sounds, _times)
    found = {}
    for kind, make in zip(KINDS, makers, strict=True):
        questions = list(make(story, rng))
        found[kind] = rng.sample(questions, len(questions))
    return found


def description_of(story: Story, rng: random.Random) -> Asked:
    """What happens, in one or two sentences."""
    first = story.actors[0]
    if story.make == "direction" and first.moves:
        text = f"{with_article(first.kind)} moves {_WAYS[first.moves][-1]}"
    elif story.make == "change" and first.turns:
        text = f"{with_article(first.kind)} turns {first.turns[1]}"
    elif story.make == "count":
        number = len(story.actors)
        many = f"{NUMBER_WORDS[number]} {plural(first.kind)} appear"
        text = f"{with_article(first.kind)} appears" if number == 1 else many
    else:
        text = ", then ".join(with_article(actor.kind) for actor in story.actors)
    heard = [_said(event.noise) for event in story.events]
    sound = f" {capital(', then '.join(heard))} can be heard." if heard else ""
    question = rng.choice(("Describe the video.", "What happens in the video?"))
    return Asked(question, f"{capital(text)}.{sound}", (text,), "description")


def ends_of(story: Story) -> Iterator[Asked]:
    """Where what moves begins and ends; whoever tells both knows the direction."""
    sides = {"left": "on the left", "right": "on the right", "up": "at the top"}
    sides |= {"down": "at the bottom"}
    back: dict[str, str] = {"left": "right", "right": "left", "up": "down", "down": "up"}
    for actor in story.actors:
        if actor.moves:
            name = _the(actor, story)
            yield short(f"Where is {name} at the end?", sides[actor.moves], "end")
            yield short(f"Where is {name} at the start?", sides[back[actor.moves]], "start")


def _directions(story: Story, rng: random.Random) -> Iterator[Asked]:
    for actor in story.actors:
        if actor.moves:
            question = rng.choice(
                (
                    f"Which way does {_the(actor, story)} move?",
                    f"In which direction does {_the(actor, story)} move?",
                    f"Where does {_the(actor, story)} go?",
                )
            )
            ways = _WAYS[actor.moves]
            yield Asked(question, f"{capital(ways[0])}.", ways, "direction")


def _orders(story: Story, rng: random.Random) -> Iterator[Asked]:
    if story.make != "order":
        return
    for words, actor in (("first", story.actors[0]), ("last", story.actors[-1])):
        question = rng.choice((f"What appears {words}?", f"What comes {words}?"))
        yield _thing(question, actor, story, "order")
        one, other = rng.sample([story.actors[0], story.actors[-1]], 2)
        pair = f"{_the(one, story)} or {_the(other, story)}"
        yield _thing(f"Which comes {words}, {pair}?", actor, story, "order")
    for actor, following in zip(story.actors, story.actors[1:], strict=False):
        yield _thing(f"What comes after {_the(actor, story)}?", following, story, "order")


def _counts(story: Story, rng: random.Random) -> Iterator[Asked]:
    if story.make == "count":
        things = plural(story.actors[0].kind)
        question = rng.choice(
            (f"How many {things} appear?", f"How many {things} are there at the end?")
        )
        yield short(question, str(len(story.actors)), "count")


def _changes(story: Story, rng: random.Random) -> Iterator[Asked]:
    for actor in story.actors:
        if actor.turns and actor.kind.colour:
            name = f"the {actor.kind.name}"
            old, new = actor.kind.colour, actor.turns[1]
            yield short(f"What color is {name} at the end?", new, "change")
            yield short(f"What color does {name} turn?", new, "change")
            yield short(f"What color is {name} at the start?", old, "change")


def _sounds(story: Story, rng: random.Random) -> Iterator[Asked]:
    events = story.events
    if len(events) == 1:
        yield _sound("What can be heard?", events[0].noise, "heard")
    if len(events) == 2:
        yield _sound("Which sound comes first?", events[0].noise, "heard")
        yield _sound("Which sound comes last?", events[1].noise, "heard")
    words = [event.noise for event in events if event.noise.is_word]
    if len(words) == 1:
        yield _sound("Which word is said?", words[0], "heard")


def _times(story: Story, rng: random.Random) -> Iterator[Asked]:
    """What was heard when, what was seen when."""
    if story.make == "order" and story.actors[0].leaves < story.seconds:
        for actor in story.actors:
            yield from _heard_during(actor, story)
        for event in story.events:
            shown = next(a for a in story.actors if a.appears <= event.starts < a.leaves)
            question = f"What is on the screen when {_the_sound(event)} is heard?"
            yield _thing(question, shown, story, "when")
    if story.make == "change":
        turning = story.actors[0]
        if turning.turns:
            time, colour = turning.turns
            for event in story.events:
                answer = "before" if event.ends < time else "after"
                name = f"the {turning.kind.name}"
                question = f"Is {_the_sound(event)} before or after {name} turns {colour}?"
                yield short(question, answer, "when")
                now = colour if answer == "after" else str(turning.kind.colour)
                question = f"What color is {name} when {_the_sound(event)} is heard?"
                yield short(question, now, "when")


def _heard_during(actor: Actor, story: Story) -> Iterator[Asked]:
    during = [e for e in story.events if actor.appears <= e.starts < actor.leaves]
    question = f"What is heard while {_the(actor, story)} is on the screen?"
    if during:
        yield _sound(question, during[0].noise, "when")
    elif story.events:
        yield Asked(question, "Nothing.", ("nothing", "no sound", "silence"), "when")


def _thing(question: str, actor: Actor, story: Story, kind: str) -> Asked:
    """Answered by a thing; its name is enough where nothing else has it."""
    words = actor.kind.words
    accepted = (words, actor.kind.name, _the(actor, story)[4:])
    answer = f"{capital(with_article(actor.kind))}."
    return Asked(question, answer, tuple(dict.fromkeys(accepted)), kind)


def _the(actor: Actor, story: Story) -> str:
    """Names in a story differ, so colours are left out."""
    alone = sum(other.kind.name == actor.kind.name for other in story.actors) == 1
    kind = Kind(actor.kind.name) if alone else actor.kind
    return f"the {with_article(kind).split(' ', 1)[1]}"


def _said(noise: Noise) -> str:
    return f'the word "{noise.name}"' if noise.is_word else SOUND_NAMES[noise.name].said


def _the_sound(event: Event) -> str:
    said = _said(event.noise)
    return said if said.startswith("the ") else f"the {said.removeprefix('a ')}"


def _sound(question: str, noise: Noise, kind: str) -> Asked:
    if noise.is_word:
        word = noise.name
        accepted = (word, f"the word {word}", f"someone says {word}")
        return Asked(question, f'The word "{word}".', accepted, kind)
    named = SOUND_NAMES[noise.name]
    return Asked(question, f"{capital(named.said)}.", (named.said, *named.others), kind)
