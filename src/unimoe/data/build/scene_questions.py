"""What can be asked of a scene, with the one right answer.

In:  a scene.  Out: questions by kind. Nothing is asked that two things could answer, nor where a
person would hesitate: in the middle, nearly equal, nearly level.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

from unimoe.data.build.canvas import COLOURS, SHAPES, SIDE
from unimoe.data.build.questions import NUMBER_WORDS, Asked, capital, short
from unimoe.data.build.scene_layout import Kind, Scene, Thing
from unimoe.data.sample import Box, Place

KINDS = ("colour", "count", "position", "shape", "relation", "presence", "size", "neighbour")
_CLEARLY = SIDE / 7
_OFF_CENTRE = SIDE / 12
_LARGER = 1.5
_BIG, _SMALL = 60, 38
"""Longer sides in pixels from which, and up to which, a thing is told to be so."""
_MAX_COUNT = 6
_PLURALS = {
    "butterfly": "butterflies",
    "ladybug": "ladybugs",
    "bus": "buses",
    "strawberry": "strawberries",
    "fish": "fish",
    "grapes": "bunches of grapes",
    "scissors": "pairs of scissors",
    "watermelon": "watermelons",
}
_BUNCHES = {"grapes": "bunch of grapes", "scissors": "pair of scissors"}


def questions_on(scene: Scene, rng: random.Random) -> dict[str, list[Asked]]:
    """All questions of each kind that have one right answer, in random order."""
    makers = (
        _colours,
        _counts,
        _positions,
        _shapes,
        _relations,
        _presences,
        _sizes,
        _neighbours,
    )
    found = {}
    for kind, make in zip(KINDS, makers, strict=True):
        questions = list(make(scene, rng))
        found[kind] = rng.sample(questions, len(questions))
    return found


def caption_of(scene: Scene, rng: random.Random) -> Asked:
    """A description in one sentence: what is there, from left to right."""
    question = rng.choice(("Describe the picture.", "Describe the image.", "What can you see?"))
    order = sorted(scene.things, key=lambda thing: thing.spot.x)
    counts = Counter(thing.kind for thing in order)
    named = [
        with_article(kind) if number == 1 else f"{NUMBER_WORDS[number]} {plural(kind)}"
        for kind, number in counts.items()
    ]
    text = " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))
    return Asked(question, f"{capital(text)}.", (text,), "caption")


def inventory_of(scene: Scene, rng: random.Random) -> Asked:
    """Everything there is, and where: as many words that have to be read off the picture."""
    question = rng.choice(("What is where?", "List what there is, and where.", "What is in it?"))
    listed = [f"{thing.kind.words}, {' '.join(_whereabouts(thing))}" for thing in scene.things]
    text = "; ".join(listed)
    return Asked(question, f"{capital(text)}.", (text,), "inventory")


def places_of(scene: Scene) -> tuple[Place, ...]:
    """What each thing is, how many of its kind there are, where in the picture, and how large.

    Where nothing is, it is told how many things there are in all.
    """
    found = [Place(f" |  | {NUMBER_WORDS[len(scene.things)]}")]
    for thing in scene.things:
        x, y, side = thing.spot
        many = NUMBER_WORDS[len(scene.of(name=thing.kind.name, colour=thing.kind.colour))]
        looks = [thing.kind.colour] if thing.kind.colour else []
        looks += ["big"] * (side > _BIG) + ["small"] * (side < _SMALL)
        parts = (looks, [thing.kind.name], [many, *_whereabouts(thing)])
        edges = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
        box = Box(*(min(1.0, max(0.0, round(edge / SIDE, 3))) for edge in edges))
        found.append(Place(" | ".join(" ".join(part) for part in parts), box))
    return tuple(found)


def with_article(kind: Kind) -> str:
    """Such as "a red circle" or "an orange star"."""
    words = _BUNCHES.get(kind.name, kind.words)
    return f"{'an' if words[0] in 'aeiou' and words[:2] != 'un' else 'a'} {words}"


def plural(kind: Kind) -> str:
    """Such as "red circles" or "buses"."""
    name = _PLURALS.get(kind.name, f"{kind.name}s")
    return f"{kind.colour} {name}" if kind.colour else name


def _the(thing: Thing, scene: Scene) -> str | None:
    """The shortest name that nothing else in the scene has."""
    kind = thing.kind
    if len(scene.of(name=kind.name)) == 1:
        return f"the {_BUNCHES.get(kind.name, kind.name)}"
    alone = kind.colour and len(scene.of(name=kind.name, colour=kind.colour)) == 1
    return f"the {kind.words}" if alone else None


def _names(thing: Thing, scene: Scene) -> tuple[str, ...]:
    """All answers that mean this thing: with its colour, and without if that is enough."""
    kind = thing.kind
    words = [_BUNCHES.get(kind.name, kind.words), kind.words]
    if len(scene.of(name=kind.name)) == 1:
        words.append(kind.name)
    return tuple(dict.fromkeys(words))


def _nameable(scene: Scene) -> list[tuple[Thing, str]]:
    named = [(thing, _the(thing, scene)) for thing in scene.things]
    return [(thing, name) for thing, name in named if name is not None]


def _colours(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    for shape in SHAPES:
        colours = {thing.kind.colour for thing in scene.of(name=shape)}
        if len(colours) == 1:
            name = f"the {shape}" if len(scene.of(name=shape)) == 1 else f"the {shape}s"
            verb = "is" if name.endswith(shape) else "are"
            question = rng.choice((f"What color {verb} {name}?", f"Which color {verb} {name}?"))
            yield short(question, str(colours.pop()), "colour")


def _shapes(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    for colour in COLOURS:
        found = scene.of(colour=colour)
        if len(found) == 1:
            question = rng.choice((f"What shape is {colour}?", f"What is the {colour} shape?"))
            yield short(question, found[0].kind.name, "shape")


def _counts(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    counts = {"things": len(scene.things)}
    for thing in scene.things:
        kind = thing.kind
        counts[plural(Kind(kind.name))] = len(scene.of(name=kind.name))
        if kind.colour:
            counts[plural(kind)] = len(scene.of(name=kind.name, colour=kind.colour))
            counts[f"{kind.colour} shapes"] = len(scene.of(colour=kind.colour))
    absent = rng.choice([n for n in (*SHAPES, "car", "dog", "tree") if not scene.of(name=n)])
    counts[f"{absent}s"] = 0
    for things, number in counts.items():
        if number <= _MAX_COUNT:
            yield short(f"How many {things} are there?", str(number), "count")


def _positions(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    for thing, name in _nameable(scene):
        right, below = thing.spot.x - SIDE / 2, thing.spot.y - SIDE / 2
        level, side = _whereabouts(thing)
        if min(abs(right), abs(below)) > _OFF_CENTRE:
            yield _place(f"Where is {name}?", level, side)
        if abs(right) > _OFF_CENTRE:
            yield short(f"Is {name} on the left or on the right?", side, "position")
        if abs(below) > _OFF_CENTRE:
            yield short(f"Is {name} at the top or at the bottom?", level, "position")


def _whereabouts(thing: Thing) -> tuple[str, str]:
    """Such as ("top", "left")."""
    level = "bottom" if thing.spot.y > SIDE / 2 else "top"
    return level, "right" if thing.spot.x > SIDE / 2 else "left"


def _place(question: str, level: str, side: str) -> Asked:
    upper = {"top": "upper", "bottom": "lower"}[level]
    accepted = [f"{word} {side}" for word in (level, upper)]
    accepted += [f"{where} corner" for where in accepted]
    accepted += [f"in the {where}" for where in accepted]
    return Asked(question, f"{capital(level)} {side}.", tuple(accepted), "position")


def _relations(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    for first, name in _nameable(scene):
        for second, other in _nameable(scene):
            if first is second:
                continue
            right, below = first.spot.x - second.spot.x, first.spot.y - second.spot.y
            if abs(right) > _CLEARLY:
                answer = "right" if right > 0 else "left"
                yield short(f"Is {name} left or right of {other}?", answer, "relation")
            if abs(below) > _CLEARLY:
                answer = "below" if below > 0 else "above"
                yield short(f"Is {name} above or below {other}?", answer, "relation")


def _neighbours(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    """What is beside something: asked where only one thing is, and it is clear."""
    sides = (
        ("to the left of", -1, 0),
        ("to the right of", 1, 0),
        ("above", 0, -1),
        ("below", 0, 1),
    )
    for thing, name in _nameable(scene):
        for words, right, down in sides:
            ahead = [
                (other.spot.x - thing.spot.x) * right + (other.spot.y - thing.spot.y) * down
                for other in scene.things
            ]
            found = [other for other, way in zip(scene.things, ahead, strict=True) if way > 0]
            if len(found) == 1 and max(ahead) > _CLEARLY:
                answer = with_article(found[0].kind)
                accepted = _names(found[0], scene)
                yield Asked(
                    f"What is {words} {name}?", f"{capital(answer)}.", accepted, "neighbour"
                )


def _presences(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    """Something that is there; the same shape in another colour, the same colour elsewhere."""
    thing = rng.choice(scene.things)
    yield short(f"Is there {with_article(thing.kind)}?", "yes", "presence")
    yield short(f"Is there {with_article(_absent(thing.kind, scene, rng))}?", "no", "presence")


def _absent(kind: Kind, scene: Scene, rng: random.Random) -> Kind:
    there = {thing.kind for thing in scene.things}
    near = [Kind(kind.name, colour) for colour in COLOURS if kind.colour]
    near += [Kind(shape, kind.colour) for shape in SHAPES if kind.colour]
    far = [Kind(shape, colour) for shape in SHAPES for colour in COLOURS]
    choices = near if near and rng.random() < 0.7 else far
    return rng.choice([other for other in choices if other not in there])


def _sizes(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    for first, name in _nameable(scene):
        for second, other in _nameable(scene):
            if first.spot.side > _LARGER * second.spot.side:
                pair = rng.sample([name, other], 2)
                for word, thing in (("bigger", first), ("smaller", second)):
                    yield _choice(f"Which is {word}, {pair[0]} or {pair[1]}?", thing, scene, "size")


def _choice(question: str, thing: Thing, scene: Scene, kind: str) -> Asked:
    name = _the(thing, scene) or ""
    return Asked(question, f"{capital(name)}.", _names(thing, scene), kind)
