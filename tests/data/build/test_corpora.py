import pytest

from tests.data.build.tiny_parts import write_words
from unimoe.data.build.corpora import (
    Dialogue,
    Gloss,
    read_dialogues,
    read_glosses,
    read_opposites,
    read_paragraphs,
)
from unimoe.errors import DataError


def test_glosses_part_definition_and_examples(tmp_path):
    glosses = read_glosses(write_words(tmp_path)["wordnet"])

    assert glosses[0] == Gloss(
        "dog", "noun", "an animal that barks", ("the dog ran to the house", "he fed the dog")
    )
    assert glosses[1].word == "fire truck"


def test_rude_glosses_and_the_licence_are_left_out(tmp_path):
    words = [gloss.word for gloss in read_glosses(write_words(tmp_path)["wordnet"])]

    assert words == ["dog", "fire truck", "hot", "cold"]


def test_opposites_are_the_antonyms_that_are_used(tmp_path):
    wordnet = write_words(tmp_path)["wordnet"]

    assert read_opposites(wordnet) == [("cold", "hot")]
    assert read_opposites(wordnet, min_uses=35) == []


def test_dialogues_have_a_topic_a_question_and_an_answer(tmp_path):
    dialogues = read_dialogues(write_words(tmp_path)["chatterbot"])

    assert dialogues[1] == Dialogue("test", "Do you like music", "Yes, I do.")


def test_paragraphs_are_plain_text_without_line_breaks(tmp_path):
    page = "<html><h1>Title</h1><p>One <b>bold</b>\n word.</p><p>Two.</p><pre>code</pre></html>"
    (tmp_path / "a.en.html").write_text(page)

    assert read_paragraphs(tmp_path) == ["One bold word.", "Two."]


@pytest.mark.parametrize("read", [read_glosses, read_dialogues, read_paragraphs])
def test_an_empty_folder_is_told(read, tmp_path):
    with pytest.raises(DataError, match="unpacked"):
        read(tmp_path)
