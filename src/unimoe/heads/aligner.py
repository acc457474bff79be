"""Which letter is spoken when: letters read off the codec's codes, and a text laid along them.

In:  codebook rows [batch, codes, code_width]; a text.  Out: scores of letters at every code; how
many codes every character of the text lasts.
Source: connectionist temporal classification; Viterbi.
Axes: letters = the blank and `LETTERS`; characters = of the text.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from unimoe.config import MelCodecConfig
from unimoe.errors import DataError
from unimoe.heads.mel_codec import ConvBlock

LETTERS = " 'abcdefghijklmnopqrstuvwxyz."
"""In their order after the blank, which is 0. All marks that may pause count as a full stop."""
_PAUSES = ".,?!;:"
_NUM_BLOCKS, _FFN_FACTOR = 3, 3


class Aligner(nn.Module):
    """Convolutions over codes, to scores of letters."""

    def __init__(self, config: MelCodecConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.first = nn.Linear(config.code_width, width)
        self.blocks = nn.Sequential(
            *(ConvBlock(width, _FFN_FACTOR, 1 / _NUM_BLOCKS) for _ in range(_NUM_BLOCKS))
        )
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 1 + len(LETTERS))

    def forward(
        self, vectors: Float[Tensor, "batch codes code_width"]
    ) -> Float[Tensor, "batch codes letters"]:
        """Logits."""
        scores: Tensor = self.out(self.norm(self.blocks(self.first(vectors))))
        return scores


def letters_of(text: str) -> Int64[Tensor, " characters"]:
    """The class of every character: case is not heard, a hyphen is a space.

    Raises:
        DataError: the text is empty, or holds what is no letter.
    """
    plain = text.lower().replace("-", " ")
    for mark in _PAUSES:
        plain = plain.replace(mark, ".")
    wrong = sorted(set(plain) - set(LETTERS))
    if wrong or not plain:
        raise DataError(
            f"{text!r} to be spoken holds {wrong or 'nothing'}; need letters a to z, spaces, "
            "apostrophes, hyphens and punctuation. Write numbers and signs as words"
        )
    return torch.tensor([1 + LETTERS.index(letter) for letter in plain])


def durations_of(
    scores: Float[Tensor, "codes letters"], letters: Int64[Tensor, " characters"]
) -> Int64[np.ndarray, " characters"]:
    """How many codes each character lasts; they add up to all codes.

    A character's middle is where the likeliest path says it; the space to the next is halved.

    Raises:
        DataError: the text is too long for the sound.
    """
    middles = _likeliest_places(scores.log_softmax(-1).double().numpy(), letters.numpy())
    between = (middles[:-1] + middles[1:] + 1) // 2
    bounds = np.concatenate([[0], between, [len(scores)]])
    return np.diff(bounds)


def _likeliest_places(
    log_probabilities: Float[np.ndarray, "codes letters"], letters: Int64[np.ndarray, " characters"]
) -> Int64[np.ndarray, " characters"]:
    """The middle of the codes at which the likeliest path says each letter."""
    num_codes, num_states = len(log_probabilities), 2 * len(letters) + 1
    states = np.zeros(num_states, np.int64)  # blank, letter, blank, letter, … blank
    states[1::2] = letters
    # From a letter to the next one without a blank between: only where they differ.
    may_skip = np.zeros(num_states, bool)
    may_skip[3::2] = letters[1:] != letters[:-1]
    best = np.full(num_states, -np.inf)
    best[:2] = log_probabilities[0, states[:2]]
    came_from = np.zeros((num_codes, num_states), np.int8)
    for code in range(1, num_codes):
        ways = np.full((3, num_states), -np.inf)
        ways[0], ways[1, 1:] = best, best[:-1]
        ways[2, 2:] = np.where(may_skip[2:], best[:-2], -np.inf)
        came_from[code] = ways.argmax(0)
        best = ways.max(0) + log_probabilities[code, states]
    state = num_states - 1 - int(best[-2] > best[-1])
    if not np.isfinite(best[state]):
        raise DataError(
            f"{len(letters)} letters in {num_codes} codes of sound; the text is too long for it"
        )
    path = np.empty(num_codes, np.int64)
    for code in range(num_codes - 1, -1, -1):
        path[code] = state
        state -= int(came_from[code, state])
    codes = np.arange(num_codes)
    said = [codes[path == 2 * place + 1] for place in range(len(letters))]
    return np.array([(each[0] + each[-1]) // 2 for each in said])
