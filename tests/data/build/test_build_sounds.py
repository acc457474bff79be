import pytest

from tests.data.build.tiny_parts import tiny_soundfont, write_recording
from unimoe.data.build.effects import EFFECTS
from unimoe.data.build.questions import NUMBER_WORDS
from unimoe.data.build.sounds import INSTRUMENTS, animal_classes, build_sounds, effect_classes
from unimoe.data.manifest import read_manifest
from unimoe.errors import DataError

SCALE = 0.02
FILES = """mammals/dogs/dog mammals/bovines/cow mammals/bovines/cow_white mammals/bovines/sheep
mammals/bovines/sheep_lamb mammals/equines/horse mammals/pig mammals/pig_golden birds/duck
birds/drake birds/rooster birds/owl birds/crow amphibians/frog mammals/elephant mammals/cats/lion
insects/bee insects/hornet"""
STAMPS = ["seasonal/halloween/blackcat", *(f"animals/{file}" for file in FILES.split())]


@pytest.fixture
def sources(tmp_path):
    for number, file in enumerate(STAMPS):
        path = tmp_path / "tux/usr/share/tuxpaint/stamps" / f"{file}.ogg"
        write_recording(path, 200 + 20 * number, seconds=0.3)
    font = tmp_path / "font/usr/share/sounds/sf2/TimGM6mb.sf2"
    font.parent.mkdir(parents=True)
    font.write_bytes(tiny_soundfont(tuple(instrument.program for instrument in INSTRUMENTS)))
    return {"tuxpaint": tmp_path / "tux", "timgm6mb": tmp_path / "font"}


@pytest.fixture
def splits(sources, tmp_path):
    build_sounds(sources, tmp_path / "sounds", scale=SCALE)
    return {
        split: list(read_manifest(tmp_path / "sounds" / f"{split}.jsonl"))
        for split in ("train", "validation", "test")
    }


def test_melodies_are_in_one_split_each(splits):
    played = {
        split: {sample.traits["melody"] for sample in found if "melody" in sample.traits}
        for split, found in splits.items()
    }

    assert played["train"]
    assert played["test"]
    assert not played["train"] & played["test"]


def test_the_test_asks_one_question_and_accepts_its_answer(splits):
    for sample in splits["test"]:
        assert len(sample.conversations) == 2
        assert sample.conversations[1].text.rstrip(".").lower() in map(str.lower, sample.answers)


def test_all_tasks_are_trained_and_tested(splits):
    tasks = {"sound", "instrument", "melody", "sound_order", "sound_count"}

    assert {sample.task for sample in splits["train"]} == tasks
    assert {sample.task for sample in splits["test"]} >= tasks - {"melody"}


def test_second_recordings_are_heard_in_the_test_only(sources):
    training, test = (
        {animal.traits["recording"] for animal in animal_classes(sources["tuxpaint"], split)}
        for split in ("train", "test")
    )

    assert test - training == {
        "mammals/bovines/cow_white",
        "mammals/bovines/sheep_lamb",
        "mammals/pig_golden",
        "birds/drake",
        "insects/hornet",
    }


def test_a_missing_recording_is_told(tmp_path):
    with pytest.raises(DataError, match=r"dog\.ogg"):
        animal_classes(tmp_path, "train")


def test_classes_have_phrases_of_their_own():
    phrases = [each.phrase for each in (*effect_classes(), *INSTRUMENTS)]

    assert len(set(phrases)) == len(phrases) == len(EFFECTS) + len(INSTRUMENTS)


def test_moments_tell_what_is_heard_when(splits):
    for sample in splits["train"]:
        *_, last = sample.moments
        assert last.end_s > last.start_s
        if sample.task == "sound_order":
            first, then = sample.moments
            assert first.end_s < then.start_s
            answers = {turn.text for turn in sample.conversations if turn.role == "assistant"}
            assert any(first.words in answer.lower() for answer in answers)
        elif sample.task in ("instrument", "melody"):
            assert sample.traits["sound"] in last.words
            assert sample.traits["melody"].split(" ")[-1] in last.words.split(" ")
        elif sample.task == "sound_count":
            count = int(sample.traits["count"])
            assert last.words.split(" ")[-1] == NUMBER_WORDS[count]
