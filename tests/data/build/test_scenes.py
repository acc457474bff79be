import random
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.data.build.drawn_parts import make_sprites, write_styles
from unimoe.data import read_manifest
from unimoe.data.build.canvas import COLOURS, SIDE, shade
from unimoe.data.build.questions import NUMBER_WORDS, Asked, Balance, short
from unimoe.data.build.scene_layout import Kind, Scene, compose_scene
from unimoe.data.build.scene_questions import (
    KINDS,
    caption_of,
    inventory_of,
    places_of,
    plural,
    questions_on,
    with_article,
)
from unimoe.data.build.scenes import build_scenes
from unimoe.data.sample import WHOLE_PICTURE


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    sprites = make_sprites()
    return [compose_scene(sprites, random.Random(number)) for number in range(200)]


@pytest.fixture(scope="module")
def asked(scenes: list[Scene]) -> list[tuple[Scene, Asked]]:
    return [
        (scene, question)
        for scene in scenes
        for found in questions_on(scene, random.Random(0)).values()
        for question in found
    ]


def test_things_lie_apart_and_inside(scenes: list[Scene]) -> None:
    for scene in scenes:
        for index, (_, spot) in enumerate(scene.things):
            assert spot.side / 2 <= min(spot.x, spot.y)
            assert max(spot.x, spot.y) <= SIDE - spot.side / 2
            for _, other in scene.things[:index]:
                apart = max(abs(spot.x - other.x), abs(spot.y - other.y))
                assert apart >= (spot.side + other.side) / 2


def test_what_is_asked_about_is_there_once(asked: list[tuple[Scene, Asked]]) -> None:
    for scene, question in asked:
        if found := re.match(r"Where is the (?:pair of |bunch of )?(.+)\?", question.question):
            *colour, name = found[1].split(" ")
            assert len(scene.of(name=name, colour=colour[0] if colour else None)) == 1


def test_counts_are_right(asked: list[tuple[Scene, Asked]]) -> None:
    for scene, question in asked:
        if question.kind == "count" and "things" not in question.question:
            words = question.question.removeprefix("How many ").removesuffix(" are there?")
            counted = sum(
                words in (plural(t.kind), plural(Kind(t.kind.name)), f"{t.kind.colour} shapes")
                for t in scene.things
            )
            assert question.answer == f"{counted}."
            assert counted <= 6


def test_left_of_and_above_are_the_viewers(asked: list[tuple[Scene, Asked]]) -> None:
    for scene, question in asked:
        pattern = r"Is the (\w+) (left or right of|above or below|left or right of) the (\w+)\?"
        if found := re.match(pattern, question.question):
            one, other = (scene.of(name=found[group])[0].spot for group in (1, 3))
            expected = {
                "Left.": one.x < other.x,
                "Right.": one.x > other.x,
                "Above.": one.y < other.y,
                "Below.": one.y > other.y,
            }
            assert expected[question.answer]


def test_what_is_said_to_be_absent_is_absent(asked: list[tuple[Scene, Asked]]) -> None:
    for scene, question in asked:
        if question.kind == "presence":
            phrases = {with_article(thing.kind) for thing in scene.things}
            is_there = question.question.removeprefix("Is there ").rstrip("?") in phrases
            assert question.answer == ("Yes." if is_there else "No.")


def test_no_answer_is_a_good_guess(scenes: list[Scene]) -> None:
    balance, given = Balance(), defaultdict(Counter)
    for scene in scenes:
        for kind, found in questions_on(scene, random.Random(0)).items():
            if found:
                given[kind][balance.choose(found).answer] += 1

    assert set(given) == set(KINDS)
    shares = {k: max(answers.values()) / answers.total() for k, answers in given.items()}
    assert shares.pop("presence") <= 0.55
    assert max(shares.values()) <= 0.35


def test_a_description_names_every_kind(scenes: list[Scene]) -> None:
    for scene in scenes[:40]:
        text = caption_of(scene, random.Random(0)).answer.lower()
        for kind in {thing.kind for thing in scene.things}:
            assert kind.words in text or plural(kind) in text


def test_balance_takes_the_answer_given_least() -> None:
    balance = Balance()
    red, blue = short("?", "red", "colour"), short("?", "blue", "colour")

    assert [balance.choose([red, blue]).answer for _ in range(3)] == ["Red.", "Blue.", "Red."]
    assert balance.choose([red, blue]) is blue


def test_grey_has_hardly_a_tint() -> None:
    shades = [shade("gray", random.Random(number)) for number in range(20)]

    assert max(max(parts) - min(parts) for parts in shades) <= 6


def test_built_scenes_share_nothing_and_ask_all_kinds(tmp_path: Path) -> None:
    sources = write_styles(tmp_path, ("fluent-emoji", "twemoji"))
    build_scenes(sources, tmp_path / "set", scale=0.012)

    train, test = (read_manifest(tmp_path / "set" / f"{name}.jsonl") for name in ("train", "test"))
    assert {s.traits["kind"] for s in test} == set(KINDS)
    assert not {s.traits["scene"] for s in train} & {s.traits["scene"] for s in test}
    assert max(len(s.conversations) for s in train) == 16
    assert {len(s.conversations) for s in test} == {2}


def test_some_things_to_learn_from_are_alone_in_their_picture(tmp_path: Path) -> None:
    sources = write_styles(tmp_path, ("fluent-emoji", "twemoji"))
    build_scenes(sources, tmp_path / "set", scale=0.002)
    train, test = (read_manifest(tmp_path / "set" / f"{name}.jsonl") for name in ("train", "test"))

    things = [len(sample.places) - 1 for sample in train]  # the whole picture is told the number

    assert things.count(1) == len(things) / 4
    assert all(len(sample.places) > 2 for sample in test)


def test_an_inventory_lists_everything_where_it_is(scenes: list[Scene]) -> None:
    for scene in scenes:
        asked = inventory_of(scene, random.Random(0))
        listed = asked.answer[:1].lower() + asked.answer[1:-1]
        assert asked.answer.endswith(".")
        for thing, said in zip(scene.things, listed.split("; "), strict=True):
            level = "top" if thing.spot.y <= SIDE / 2 else "bottom"
            side = "left" if thing.spot.x <= SIDE / 2 else "right"
            assert said == f"{thing.kind.words}, {level} {side}"


def test_some_pictures_are_asked_about_one_thing_after_another(tmp_path: Path) -> None:
    sources = write_styles(tmp_path, ("fluent-emoji", "twemoji"))
    build_scenes(sources, tmp_path / "set", scale=0.006)
    shares = Counter[str]()
    for sample in read_manifest(tmp_path / "set" / "train.jsonl"):
        asked = [turn.text for turn in sample.conversations[::2]]
        assert len(asked) == len({*asked})
        shares["places"] += sum("Where is" in text or " at the top " in text for text in asked) > 2
        shares["lists"] += bool(re.search("What is where|List what|is in it", asked[-1]))
        shares["all"] += 1
    assert 0.1 < shares["places"] / shares["all"] < 0.4
    assert 0.3 < shares["lists"] / shares["all"] < 0.7


def test_places_tell_where_each_thing_is_and_how_many_there_are(scenes: list[Scene]) -> None:
    for scene in scenes:
        total, *places = places_of(scene)
        assert total.box == WHOLE_PICTURE  # told where nothing else is
        assert total.words.split("|")[2].strip() == NUMBER_WORDS[len(scene.things)]
        assert len(places) == len(scene.things)
        for (kind, spot), (words, box, _) in zip(scene.things, places, strict=True):
            assert box.left <= spot.x / SIDE <= box.right
            assert box.top <= spot.y / SIDE <= box.bottom
            looks, name, rest = (part.split() for part in words.split("|"))
            assert name == [kind.name]
            assert looks[:1] == [kind.colour] if kind.colour else not {*looks} & {*COLOURS}
            said = [*looks, *rest]
            assert ("left" in said) == (spot.x <= SIDE / 2)
            assert ("bottom" in said) == (spot.y > SIDE / 2)
            alike = sum(thing.kind == kind for thing in scene.things)
            assert NUMBER_WORDS[alike] in said
            assert not {"big", "small"} <= {*said}
