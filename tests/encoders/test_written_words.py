"""Pieces of a transcript, their moments and their places among queries."""

import itertools

import pytest
import torch

from unimoe.encoders.written_words import (
    WrittenPiece,
    digits,
    laid_out,
    moments,
    sounding,
    written_tokens,
)

ALL_SOUND = torch.ones(1, 9, dtype=torch.bool)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tokens_survive_every_dtype_of_states(dtype: torch.dtype) -> None:
    tokens = torch.tensor([[-1, 0, 254, 255, 256], [257, 49_151, 65_535, 151_936, 2**24 - 2]])
    rows = torch.nn.functional.pad(digits(tokens).to(dtype), (0, 5))
    assert torch.equal(written_tokens(rows), tokens)


def test_rows_of_zeros_hold_no_token() -> None:
    assert written_tokens(torch.zeros(2, 3, 8)).unique().tolist() == [-1]


def _best_shares(scores: torch.Tensor) -> list[int]:
    """The piece of every step, of all ways to deal the steps out in order the best."""
    pieces, steps = scores.shape
    cuts = itertools.combinations(range(1, steps), pieces - 1)
    dealt = [[sum(cut <= step for cut in where) for step in range(steps)] for where in cuts]
    return max(dealt, key=lambda path: sum(scores[p, s] for s, p in enumerate(path)))


@pytest.mark.parametrize("seed", range(5))
def test_moments_are_in_the_best_shares_of_the_steps(seed: int) -> None:
    attention = torch.rand(1, 2, 4, 9, generator=torch.manual_seed(seed))
    shares = attention[0] / attention[0].sum(-1, keepdim=True)
    spread = shares.std(1, correction=0, keepdim=True) + 1e-6
    relative = ((shares - shares.mean(1, keepdim=True)) / spread).mean(0)
    path = torch.tensor(_best_shares(relative))
    wanted = []
    for piece in range(4):
        own = shares.mean(0)[piece] * (path == piece)
        wanted.append(int((own.cumsum(0) < own.sum() / 2).sum()))
    assert moments(attention, torch.tensor([4]), ALL_SOUND)[0].tolist() == wanted


def test_moments_of_a_clip_do_not_depend_on_longer_ones_beside_it() -> None:
    attention = torch.rand(2, 3, 6, 12, generator=torch.manual_seed(0))
    both = moments(attention, torch.tensor([3, 6]), ALL_SOUND[:, :1].expand(2, 12))
    alone = moments(attention[:1, :, :3], torch.tensor([3]), ALL_SOUND[:, :1].expand(1, 12))
    assert torch.equal(both[:1, :3], alone)


def test_attention_that_moves_on_is_followed() -> None:
    attention = torch.full((1, 2, 3, 9), 0.01)
    for piece, step in enumerate((1, 5, 8)):
        attention[:, :, piece, step] = 1.0
    assert moments(attention, torch.tensor([3]), ALL_SOUND)[0].tolist() == [1, 5, 8]


def test_nothing_is_said_before_and_after_the_sound() -> None:
    attention = torch.full((1, 2, 3, 9), 0.01)
    attention[..., 0] = 1.0
    is_sound = torch.tensor([[False, False, True, True, True, True, False, False, False]])
    found = moments(attention, torch.tensor([3]), is_sound)[0].tolist()
    assert found == sorted(found)
    assert all(2 <= step <= 5 for step in found)


def test_steps_filled_with_zeros_are_not_sound() -> None:
    features = torch.full((1, 4, 8), -0.7)
    features[0, 2, 3:6] = 0.1
    assert sounding(features)[0].tolist() == [False, False, True, False]


def _laid(*pieces: tuple[list[int], int, bool], num_queries: int = 6) -> list[int]:
    """In a clip of 12 steps with 4 of context on either side."""
    written = [WrittenPiece(*piece) for piece in pieces]
    return laid_out(written, first_step=4, num_steps=12, num_queries=num_queries)


def test_a_piece_stands_at_the_query_of_its_moment() -> None:
    assert _laid(([7], 4, True), ([8], 9, True), ([9], 15, True)) == [7, -1, 8, -1, -1, 9]


def test_pieces_of_one_moment_and_tokens_of_one_piece_follow_each_other() -> None:
    assert _laid(([7], 6, True), ([8], 6, False), ([1, 2], 7, True)) == [-1, 7, 8, 1, 2, -1]


def test_pieces_at_the_end_move_up_so_that_all_find_room() -> None:
    assert _laid(([7], 4, True), ([8], 14, True), ([1, 2, 3], 15, True)) == [7, -1, 8, 1, 2, 3]


def test_tokens_beyond_the_places_are_left_out() -> None:
    assert _laid(([1, 2, 3], 4, True), ([4, 5, 6], 9, True), num_queries=4) == [1, 2, 3, 4]


def test_a_word_stands_whole_in_the_clip_it_begins_in() -> None:
    before, across = ([1], 2, True), ([2], 15, True)
    rest_of_before, rest_of_across = ([3], 5, False), ([4], 17, False)
    assert _laid(before, rest_of_before, across, rest_of_across) == [-1, -1, -1, -1, 2, 4]
    assert _laid(([5], 16, True), ([6], 17, False)) == [-1] * 6


def test_a_piece_the_core_cannot_say_leaves_its_place_free() -> None:
    assert _laid(([], 4, True), ([8], 6, False)) == [-1, 8, -1, -1, -1, -1]
