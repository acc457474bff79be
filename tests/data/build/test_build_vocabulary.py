import pytest

from tests.data.build.tiny_parts import Tones, write_words
from unimoe.data.build import sentences, speech, vocabulary
from unimoe.data.build.sentences import Sentence, split_of_sentence
from unimoe.data.build.vocabulary import build_vocabulary, rarest_first
from unimoe.data.build.voices import HELD_OUT_VOICES
from unimoe.data.manifest import read_manifest


def spoken(*texts):
    return [Sentence(text, "example") for text in texts]


def test_sentences_with_words_never_heard_come_first():
    heard = spoken("The cat sleeps.")
    pool = spoken("The cat sleeps again.", "The cat, the cat.", "A dog sleeps.", "The dog sleeps.")

    chosen = [sentence.text for sentence in rarest_first(pool, heard, 3)]

    assert chosen == ["The cat sleeps again.", "A dog sleeps.", "The dog sleeps."]


def test_no_more_are_chosen_than_there_are():
    pool = spoken("One word.", "Two words.")

    assert list(rarest_first(pool, [], 9)) == pool


@pytest.fixture
def built(tmp_path, monkeypatch):
    monkeypatch.setattr(sentences, "_FILLS_PER_PATTERN", 3)
    monkeypatch.setattr(speech, "_NUM_TRAINING", {"hibari": 20, "slt": 10})
    monkeypatch.setattr(speech, "_NUM_TRAINING_PAIRS", 5)
    monkeypatch.setattr(vocabulary, "_NUM_SENTENCES", 6_000)
    words = write_words(tmp_path / "words")
    build_vocabulary(words, Tones(tmp_path / "clips"), tmp_path / "more", scale=0.003)
    pool = speech.speech_sentences(words)
    first = {s.key for plan in speech.training_plan(pool, 0, 1.0) for s in plan.sentences}
    return first, list(read_manifest(tmp_path / "more" / "train.jsonl"))


def test_sentences_are_new_and_of_the_training_split(built):
    first, samples = built

    assert len(samples) == 18
    assert not {sample.traits["sentence"] for sample in samples} & first
    assert {split_of_sentence(sample.answers[0]) for sample in samples} == {"train"}
    assert not {sample.traits["voice"] for sample in samples} & HELD_OUT_VOICES
