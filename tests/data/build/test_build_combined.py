from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.build.tiny_parts import Tones
from tests.data.small_sets import CARD, tone
from unimoe.data import DatasetWriter, OmniSample, Turn
from unimoe.data.build.combined import build_combined
from unimoe.data.build.questions import uncapital
from unimoe.data.build.voices import HELD_OUT_VOICES
from unimoe.data.leaks import find_leaks
from unimoe.data.manifest import read_manifest
from unimoe.data.splits import SPLITS

THINGS = ("bell", "cat", "dog", "piano")
CLIP_QUESTIONS = ("What comes first?", "Which word is said?", "What color does it turn?")


def named(key: str, medium: str, name: str, path: str) -> OmniSample:
    return OmniSample(
        id=key,
        conversations=(
            Turn("user", f"<{medium}>What is it?"),
            Turn("assistant", f"A {name}."),
        ),
        **{f"{medium}s": (path,)},
        answers=(name, f"small {name}"),
        traits={"kind": "name"},
    )


def write_pictures(folder: Path) -> None:
    """Each thing twice in every split."""
    with DatasetWriter(folder, "naming") as writer:
        for number in range(24):
            picture = Image.fromarray(np.full((16, 16, 3), 10 * number, np.uint8))
            path = writer.image(str(number), picture)
            thing = THINGS[number // 3 % 4]
            writer.add(SPLITS[number % 3], named(f"picture {number}", "image", thing, path))
        writer.close(CARD)


def write_sounds(folder: Path) -> None:
    """Two of the things in every split."""
    with DatasetWriter(folder, "sounds") as writer:
        for number in range(6):
            path = writer.audio(str(number), tone(200 + 50 * number), 16000)
            thing = ("bell", "piano")[number // 3]
            writer.add(SPLITS[number % 3], named(f"sound {number}", "audio", thing, path))
        writer.close(CARD)


def write_clips(folder: Path) -> None:
    """Three in every split; two questions on each in training."""
    with DatasetWriter(folder, "video") as writer:
        for number in range(9):
            frames = [np.full((32, 32, 3), 20 * number + i, np.uint8) for i in range(4)]
            path = writer.video(str(number), frames, 2, (tone(300), 16000))
            turns = (
                Turn("user", f"<video>{CLIP_QUESTIONS[number // 3]}"),
                Turn("assistant", f"{number}."),
                Turn("user", "And what else?"),
                Turn("assistant", "Nothing."),
            )
            split = SPLITS[number % 3]
            sample = OmniSample(
                id=f"clip {number}",
                conversations=turns if split == "train" else turns[:2],
                videos=(path,),
                answers=("nothing",) if split == "train" else (str(number),),
                traits={"kind": "order"},
            )
            writer.add(split, sample)
        writer.close(CARD)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sets")
    write_pictures(root / "naming")
    write_sounds(root / "sounds")
    write_clips(root / "video")
    return {name: root / name for name in ("naming", "sounds", "video")}


def built(sets: dict[str, Path], folder: Path) -> Path:
    build_combined(sets, Tones(folder.with_name("clips")), folder, scale=0.1)
    return folder


@pytest.fixture(scope="module")
def combined(sets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(sets, tmp_path_factory.mktemp("built") / "combined")


def samples(folder: Path, task: str, split: str = "train") -> list[OmniSample]:
    return [each for each in read_manifest(folder / f"{split}.jsonl") if each.task == task]


def names(sets: dict[str, Path]) -> dict[str, str]:
    """Of pictures and sounds, by the id of their sample."""
    return {
        sample.id: sample.answers[0]
        for source in ("naming", "sounds")
        for split in SPLITS
        for sample in read_manifest(sets[source] / f"{split}.jsonl")
    }


def test_the_answer_names_the_medium_that_was_asked_for(
    combined: Path, sets: dict[str, Path]
) -> None:
    name_of = names(sets)

    for sample in samples(combined, "image_sound"):
        seen, heard = name_of[sample.traits["image"]], name_of[sample.traits["audio"]]
        wanted = {
            "seen": {f"A {seen}."},
            "heard": {f"A {heard}."},
            "both": {f"A {seen}, and a {heard}.", f"A {heard}, and a {seen}."},
        }
        assert seen != heard
        assert sample.conversations[-1].text in wanted[sample.traits["kind"]]


def test_both_are_answered_in_the_order_asked_for_and_by_any_of_their_names(
    combined: Path, sets: dict[str, Path]
) -> None:
    name_of = names(sets)
    both = [s for s in samples(combined, "image_sound") if s.traits["kind"] == "both"]

    assert both
    for sample in both:
        question = sample.conversations[0].text.replace("hear", "sound")
        is_heard_first = question.index("sound") < max(question.find("see"), question.find("pict"))
        order = ("audio", "image") if is_heard_first else ("image", "audio")
        first, last = (name_of[sample.traits[medium]] for medium in order)
        assert sample.conversations[-1].text == f"A {first}, and a {last}."
        assert {f"{first} and {last}", f"small {first} and {last}"} <= {*sample.answers}
        assert f"{last} and {first}" not in sample.answers


def test_two_pictures_are_told_apart_and_compared(combined: Path, sets: dict[str, Path]) -> None:
    name_of = names(sets)
    asked = samples(combined, "two_images")

    assert {sample.traits["kind"] for sample in asked} == {"first", "second", "same", "different"}
    for sample in asked:
        first, second = name_of[sample.traits["first"]], name_of[sample.traits["second"]]
        answers = {
            "first": f"A {first}.",
            "second": f"A {second}.",
            "same": "Yes.",
            "different": "No.",
        }
        assert sample.conversations[-1].text == answers[sample.traits["kind"]]
        assert (first == second) == (sample.traits["kind"] == "same")
        assert sample.images[0] != sample.images[1]


def test_a_voice_asks_the_first_question_on_a_clip(combined: Path, sets: dict[str, Path]) -> None:
    clips = {sample.id: sample for sample in read_manifest(sets["video"] / "train.jsonl")}
    spoken = samples(combined, "video_spoken")

    assert spoken
    for sample in spoken:
        clip = clips[sample.traits["video"]]
        assert sample.conversations[0].text == "<video><audio>"
        assert f"<video>{sample.traits['words']}" == clip.conversations[0].text
        assert sample.conversations[1:] == clip.conversations[1:2]
        assert sample.answers == (clip.conversations[1].text,)
        assert sample.videos == clip.videos


def test_accepted_answers_and_kind_of_an_only_question_are_kept(
    combined: Path, sets: dict[str, Path]
) -> None:
    clips = {sample.id: sample for sample in read_manifest(sets["video"] / "test.jsonl")}

    for sample in samples(combined, "video_spoken", "test"):
        assert sample.answers == clips[sample.traits["video"]].answers
        assert sample.traits["kind"] == "order"


def test_media_are_the_files_of_the_source_sets_in_their_splits(
    combined: Path, sets: dict[str, Path]
) -> None:
    for split in SPLITS:
        sources = {
            path: (folder / path).read_bytes()
            for folder in sets.values()
            for sample in read_manifest(folder / f"{split}.jsonl")
            for path in sample.media_paths
        }
        for sample in read_manifest(combined / f"{split}.jsonl"):
            spoken = sample.audios if sample.task == "video_spoken" else ()
            for path in {*sample.media_paths} - {*spoken}:
                assert (combined / path).read_bytes() == sources[path]


def test_splits_share_nothing_not_even_with_the_source_sets(
    combined: Path, sets: dict[str, Path]
) -> None:
    assert find_leaks([combined, *sets.values()]) == []


def test_training_hears_no_held_out_voice(combined: Path) -> None:
    assert not {s.traits["voice"] for s in samples(combined, "video_spoken")} & HELD_OUT_VOICES


def test_the_same_seed_gives_the_same_set(
    combined: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    again = built(sets, tmp_path / "combined")

    files = sorted(file.relative_to(combined) for file in combined.rglob("*.*"))
    assert files == sorted(file.relative_to(again) for file in again.rglob("*.*"))
    assert all((combined / file).read_bytes() == (again / file).read_bytes() for file in files)


@pytest.mark.parametrize(
    ("at_the_start", "inside"),
    [("A cat", "a cat"), ("DNA", "DNA"), ("The Statue of Liberty", "the Statue of Liberty")],
)
def test_a_name_is_written_small_inside_a_sentence(at_the_start: str, inside: str) -> None:
    assert uncapital(at_the_start) == inside
