import numpy as np
import pytest
from PIL import Image

from tests.data.build.tiny_parts import Tones, write_words
from unimoe.data import DataCard, DatasetWriter, OmniSample, Turn
from unimoe.data.build.spoken import build_spoken
from unimoe.data.build.voices import HELD_OUT_VOICES
from unimoe.data.leaks import find_leaks
from unimoe.data.manifest import read_manifest

CARD = DataCard(subject="Colours.", source="Made here.", licence="CC0", split_rule="By number.")
QUESTIONS = ("What color is it?", "Is it red?", "Is there a dog?", "what shape is in the image?")


def write_pictures(folder, name):
    """Three pictures in each split, one colour each, with two questions."""
    with DatasetWriter(folder, name) as writer:
        for number in range(9):
            split = ("train", "validation", "test")[number % 3]
            picture = Image.fromarray(np.full((16, 16, 3), 20 * number + len(name), np.uint8))
            path = writer.image(str(number), picture)
            asked = QUESTIONS[number % 2 :: 2]
            turns = [Turn(*t) for q in asked for t in (("user", q), ("assistant", f"{number}."))]
            turns[0] = Turn("user", f"<image>{asked[0]}")
            sample = OmniSample(
                id=f"{name} {number}",
                conversations=tuple(turns),
                images=(path,),
                task=name,
                answers=(str(number),),
            )
            writer.add(split, sample)
        writer.close(CARD)


@pytest.fixture
def folders(tmp_path):
    sets = {name: tmp_path / name for name in ("scenes", "easy_vqa", "naming")}
    for name, folder in sets.items():
        write_pictures(folder, name)
    words = write_words(tmp_path / "words")
    build_spoken(words, sets, Tones(tmp_path / "clips"), tmp_path / "spoken", scale=0.02)
    return {**sets, "spoken": tmp_path / "spoken"}


def samples(folders, split):
    return list(read_manifest(folders["spoken"] / f"{split}.jsonl"))


def test_every_spoken_question_of_the_test_has_a_typed_twin(folders):
    test = samples(folders, "test")
    spoken = {s.traits["question"]: s for s in test if s.task == "spoken"}
    typed = {s.traits["question"]: s for s in test if s.task == "typed"}

    assert spoken.keys() == typed.keys() != set()
    for name, sample in spoken.items():
        assert sample.images == typed[name].images
        assert sample.answers == typed[name].answers
        assert typed[name].conversations[0].text == f"<image>{sample.traits['words']}"
        assert sample.conversations[0].text == "<image><audio>"


def test_splits_share_nothing_not_even_with_the_image_sets(folders):
    assert find_leaks(list(folders.values())) == []


def test_training_hears_no_held_out_voice_and_asks_up_to_twice(folders):
    training = samples(folders, "train")

    assert not {sample.traits["voice"] for sample in training} & HELD_OUT_VOICES
    assert {len(sample.audios) for sample in training} <= {1, 2}
    assert {"spoken", "spoken_chat"} == {sample.task for sample in training}


def test_chat_is_sound_alone_with_a_short_answer(folders):
    chat = [sample for sample in samples(folders, "train") if sample.task == "spoken_chat"]

    assert all(sample.modalities == "audio" for sample in chat)
    assert all(len(sample.conversations[-1].text.split()) <= 8 for sample in chat)
