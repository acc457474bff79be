import pytest

from tests.data.build.tiny_parts import Tones, write_people, write_words
from unimoe.data.build import sentences, speech
from unimoe.data.build.sentences import words_of
from unimoe.data.build.speech import build_speech, read_recordings, speech_sentences
from unimoe.data.build.voices import HELD_OUT_VOICES
from unimoe.data.manifest import read_manifest


@pytest.fixture
def sources(tmp_path, monkeypatch):
    monkeypatch.setattr(sentences, "_FILLS_PER_PATTERN", 3)
    monkeypatch.setattr(speech, "_NUM_TRAINING", {"hibari": 20, "slt": 10, "kokoro-alpha": 5})
    monkeypatch.setattr(speech, "_NUM_VALIDATION", {"hibari": 5, "slt": 5})
    monkeypatch.setattr(
        speech, "_NUM_TEST", {"hibari": 10, "slt": 3} | dict.fromkeys(HELD_OUT_VOICES, 2)
    )
    monkeypatch.setattr(speech, "_NUM_TRAINING_PAIRS", 5)
    monkeypatch.setattr(speech, "_NUM_TEST_PAIRS", 4)
    people = read_recordings()[:2]
    monkeypatch.setattr(speech, "read_recordings", lambda: people)
    write_people(tmp_path / "people", 2)
    return {**write_words(tmp_path / "words"), "asterisk": tmp_path / "people"}


@pytest.fixture
def splits(sources, tmp_path):
    build_speech(sources, Tones(tmp_path / "clips"), tmp_path / "speech")
    return {
        split: list(read_manifest(tmp_path / "speech" / f"{split}.jsonl"))
        for split in ("train", "validation", "test")
    }


def test_no_sentence_is_in_two_splits_and_held_out_voices_are_in_the_test_only(splits):
    said = {
        split: {sample.traits["sentence"] for sample in found} for split, found in splits.items()
    }
    voices = {split: {s.traits["voice"] for s in found} for split, found in splits.items()}

    assert not said["train"] & said["test"]
    assert not said["train"] & said["validation"]
    assert not said["validation"] & said["test"]
    assert not (voices["train"] | voices["validation"]) & {*HELD_OUT_VOICES, "asterisk"}
    assert {*HELD_OUT_VOICES, "asterisk", "hibari"} <= voices["test"]


def test_every_group_of_voices_is_in_the_test(splits):
    groups = {sample.traits["voices"] for sample in splits["test"]}

    assert groups == {
        "training",
        "further training",
        "held out",
        "human",
        "training, two sentences",
    }


def test_answer_is_the_transcript_and_the_question_asks_for_it(splits):
    for sample in splits["test"]:
        assert sample.answers == (sample.conversations[1].text,)
        assert sample.conversations[0].text == "<audio>Transcribe the speech."
        assert words_of(sample.answers[0]) == sample.traits["sentence"]


def test_two_builds_are_the_same(sources, tmp_path):
    for name in ("one", "other"):
        build_speech(sources, Tones(tmp_path / f"clips {name}"), tmp_path / name)

    files = ("train.jsonl", "validation.jsonl", "test.jsonl", "card.md")
    one, other = ([(tmp_path / n / f).read_bytes() for f in files] for n in ("one", "other"))
    assert one == other


def test_what_people_say_is_in_no_sentence_of_voices(sources):
    said = {words_of(recording.text) for recording in speech.read_recordings()}

    assert not said & {sentence.key for sentence in speech_sentences(sources)}


def test_recordings_have_one_transcript_each():
    recordings = read_recordings()

    assert len({recording.file for recording in recordings}) == len(recordings) >= 100
    assert {recording.kind for recording in recordings} == {"phrase", "digit", "date", "letter"}
