import pytest

from unimoe.data.manifest import read_manifest
from unimoe.evals.answer import Answer, Answers
from unimoe.recipes.distill import usable, write_distilled


class Parrot:
    """Answers with the question, and nothing to every third."""

    def answer(self, samples, folder, max_new_tokens):
        texts = [sample.conversations[0].text for sample in samples]
        return Answers(
            [
                Answer(text="" if number % 3 == 0 else text, finish_reason="stop")
                for number, text in enumerate(texts)
            ]
        )


def test_answers_that_end_are_kept_whole():
    assert usable(Answer(text="A dog is a pet. It", finish_reason="stop")) == "A dog is a pet. It"


def test_answers_that_were_cut_lose_their_last_sentence():
    assert usable(Answer(text="A dog is a pet. It", finish_reason="length")) == "A dog is a pet."


@pytest.mark.parametrize("text", ["", "Yes.", "a b c d " * 3])
def test_answers_of_nothing_or_in_circles_are_left_out(text):
    assert usable(Answer(text=text, finish_reason="stop")) is None


def test_what_is_left_out_is_counted_on_the_card(tmp_path):
    asked = [f"What is the number {word}?" for word in ("one", "two", "three", "four", "five")]

    write_distilled(Parrot(), asked, tmp_path / "distilled")

    kept = [
        sample
        for split in ("train", "validation", "test")
        for sample in read_manifest(tmp_path / "distilled" / f"{split}.jsonl")
    ]
    assert {sample.conversations[0].text for sample in kept} == {asked[1], asked[2], asked[4]}
    assert all(sample.conversations[1].text == sample.conversations[0].text for sample in kept)
    assert "5 prompts were asked; 2 answers" in (tmp_path / "distilled" / "card.md").read_text()
