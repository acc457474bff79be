"""Pictures of text drawn as they are asked for."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from data.made_texts import HELD_OUT, text_sources

from unimoe.checkpoint.weights import load_model
from unimoe.data.build import ocr
from unimoe.data.build.ocr import LINE_END, WrittenTexts
from unimoe.recipes import mini_letters
from unimoe.recipes.mini_letters import LetterSamples
from unimoe.tokens.vocabulary import Vocabulary
from unimoe.train.batches import SampleSource


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> WrittenTexts:
    return WrittenTexts(text_sources(tmp_path_factory.mktemp("parts")), held_out_families=HELD_OUT)


@pytest.fixture(scope="module")
def letters(tiny_directory: Path, texts: WrittenTexts) -> LetterSamples:
    model = load_model(tiny_directory)
    assert model.vision is not None
    vocabulary = Vocabulary.from_directory(tiny_directory, model.config.special_tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mini_letters, "_NUM_PICTURES", 60)
        return LetterSamples(texts, model.vision, vocabulary, model.config)


def test_lengths_are_those_of_the_samples(letters: LetterSamples) -> None:
    assert isinstance(letters, SampleSource)
    found = [len(letters[index].sample.input_ids) for index in range(len(letters.lengths))]
    assert found == letters.lengths
    assert len(set(found)) > 1


def test_the_answer_and_its_letters_are_told_and_the_tower_says_nothing(
    letters: LetterSamples, texts: WrittenTexts, tiny_directory: Path
) -> None:
    vocabulary = Vocabulary.from_directory(
        tiny_directory, load_model(tiny_directory).config.special_tokens
    )
    blank = vocabulary.encode(" ")
    for index in range(8):
        entry, words = letters[index], texts.text("train", letters._numbers[index]).words
        shown = [LINE_END if sign == " " else sign for sign in words]
        assert [told.is_once for told in entry.told] == [True] * len(shown)
        assert [told.token_ids for told in entry.told] == [
            [token for token in vocabulary.encode(f" {x}") if [token] != blank] for x in shown
        ]
        labels = entry.sample.labels
        assert labels is not None
        assert vocabulary.decode(labels[labels >= 0].tolist()).startswith(words)
        assert entry.sample.pixel_values is None
        assert entry.sample.image_states is not None
        assert not entry.sample.image_states.any()
        assert not entry.sample.image_states.is_inference()


def test_pictures_are_none_of_the_data_set() -> None:
    assert max(ocr._NUM_PICTURES.values()) <= mini_letters.FIRST


def test_two_lines_come_more_often_than_in_the_set(
    letters: LetterSamples, texts: WrittenTexts
) -> None:
    def share(numbers: Sequence[int]) -> float:
        return sum(len(texts.text("train", n).lines) == 2 for n in numbers) / len(numbers)

    assert min(letters._numbers) >= mini_letters.FIRST
    assert share(letters._numbers) > 1.5 * share(range(letters._numbers[-1])[-1000:])
