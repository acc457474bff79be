import itertools

import numpy as np
import pytest
import torch

from unimoe.errors import DataError
from unimoe.heads.aligner import LETTERS, durations_of, letters_of


def _best_path(scores: torch.Tensor, letters: list[int]) -> tuple[int, ...]:
    """The slow way: every path there is that says these letters."""
    log_probabilities = scores.log_softmax(-1)
    labels = {0, *letters}

    def said(path: tuple[int, ...]) -> list[int]:
        return [label for label, _ in itertools.groupby(path) if label]

    paths = itertools.product(labels, repeat=len(scores))
    return max(
        (path for path in paths if said(path) == letters),
        key=lambda path: sum(float(log_probabilities[i, label]) for i, label in enumerate(path)),
    )


@pytest.mark.parametrize("text", ["ab", "aa", "aba", "a"])
@pytest.mark.parametrize("seed", range(4))
def test_letters_stand_where_the_likeliest_path_says_them(text, seed):
    torch.manual_seed(seed)
    scores, letters = 2 * torch.randn(6, 1 + len(LETTERS)), letters_of(text)
    path = _best_path(scores, letters.tolist())
    middles, place = [], 0
    for label, group in itertools.groupby(path):
        length = len(list(group))
        if label:
            middles.append((place + place + length - 1) // 2)
        place += length
    bounds = [(a + b + 1) // 2 for a, b in itertools.pairwise(middles)]
    wanted = np.diff([0, *bounds, 6])
    assert durations_of(scores, letters).tolist() == wanted.tolist()


def test_case_and_kind_of_pause_are_not_heard():
    assert torch.equal(letters_of("Well, yes?"), letters_of("well. yes!"))
    assert torch.equal(letters_of("by-pass"), letters_of("by pass"))


@pytest.mark.parametrize("text", ["", "room 7", "naïve"])
def test_what_is_no_letter_is_refused(text):
    with pytest.raises(DataError, match="to be spoken"):
        letters_of(text)


def test_a_text_longer_than_its_sound_is_refused():
    with pytest.raises(DataError, match="too long"):
        durations_of(torch.randn(3, 1 + len(LETTERS)), letters_of("abcd"))


def test_a_long_text_is_laid_out_too():
    text = "a sentence of so many letters that the states of its path do not fit a byte any more."
    letters = letters_of(text)
    scores = torch.full((2 * len(text), 1 + len(LETTERS)), -8.0)
    scores[1::2, 0] = 8.0
    scores[torch.arange(len(text)) * 2, letters] = 8.0
    lasting = durations_of(scores, letters)
    assert lasting.sum() == 2 * len(text)
    assert set(lasting.tolist()) <= {1, 2, 3}
