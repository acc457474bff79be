"""Written words: a transcript laid in time over the queries of a clip.

In:  the pieces written of each clip and their attention to its states.
Out: for every query the core's token that is written there, as a row of numbers float16 keeps.

    pieces     ' The' ' gre' 'en' ' door' '.'          their moments, by attention
    clip       |context|............................|context|
    queries            |   |The|   |gre|en |   |door| . |   |

A word stands in the clip in which its first piece begins; the clip beside it leaves it out.
Source: after openai-whisper's timing.py, without its median filter; the rest is ours
(docs/sources.md#audio).
Axes: pieces = of the transcript, its end included; steps = states of a clip and its context.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_BASE = 256
"""Whole numbers up to it are exact in float16 and in bfloat16."""
NUM_DIGITS = 3


class WrittenPiece(NamedTuple):
    """A piece of a transcript."""

    tokens: list[int]
    """Of the core; none, if it cannot say the piece."""
    moment: int
    """Step of the clip and its context at which it is said."""
    begins_word: bool


def digits(tokens: Int[Tensor, "*places"]) -> Float[Tensor, "*places digits"]:
    """Token ids as numbers below 256; -1, for no token, is all zeros."""
    powers = [_BASE**place for place in range(NUM_DIGITS)]
    return torch.stack([(tokens + 1) // power % _BASE for power in powers], dim=-1).float()


def written_tokens(rows: Float[Tensor, "*places width"]) -> Int[Tensor, "*places"]:
    """Token ids of rows that begin with their digits; -1 where nothing is written."""
    powers = torch.tensor([_BASE**place for place in range(NUM_DIGITS)], device=rows.device)
    return (rows[..., :NUM_DIGITS].round().long() * powers).sum(-1) - 1


def sounding(features: Float[Tensor, "clips mel frames"]) -> Bool[Tensor, "clips steps"]:
    """Steps of two frames, both with a bin above the clip's floor: not those filled with zeros."""
    floor = features.amin((1, 2))[:, None]
    return (features.amax(1) > floor).view(len(features), -1, 2).all(-1)


def moments(
    attention: Float[Tensor, "clips heads pieces steps"],
    num_pieces: Int[Tensor, " clips"],
    is_sound: Bool[Tensor, "clips steps"],
) -> Int[Tensor, "clips pieces"]:
    """The step at which every piece is said: the middle of its attention within its own share.

    Args:
        attention: while each piece was written; rows from `num_pieces` on are not looked at.
        num_pieces: of every clip, its end included; 1 or more.
        is_sound: nothing is said before the first of these steps, nor after the last.
    """
    shares = attention * is_sound[:, None, None]
    shares = shares / shares.sum(-1, keepdim=True).clamp(min=1e-9)
    places = torch.arange(attention.shape[2], device=attention.device)
    piece_of_step = _best_path(_relative(shares, num_pieces), num_pieces)
    own = shares.mean(1) * (piece_of_step[:, None] == places[:, None])
    so_far = own.cumsum(-1)
    middles = (so_far < so_far[..., -1:] / 2).sum(-1)
    first = is_sound.int().argmax(-1)
    last = is_sound.shape[-1] - 1 - is_sound.flip(-1).int().argmax(-1)
    return middles.clamp(first[:, None], last[:, None])


def _relative(
    shares: Float[Tensor, "clips heads pieces steps"], num_pieces: Int[Tensor, " clips"]
) -> Float[Tensor, "clips pieces steps"]:
    """How much more than other pieces each attends to a step, of all heads together."""
    is_piece = torch.arange(shares.shape[2], device=shares.device) < num_pieces[:, None]
    is_piece = is_piece[:, None, :, None]
    count = num_pieces[:, None, None, None]
    mean = (shares * is_piece).sum(2, keepdim=True) / count
    spread = (((shares - mean) * is_piece).square().sum(2, keepdim=True) / count).sqrt()
    return ((shares - mean) / (spread + 1e-6)).mean(1)


def _best_path(
    scores: Float[Tensor, "clips pieces steps"], num_pieces: Int[Tensor, " clips"]
) -> Int[Tensor, "clips steps"]:
    """The piece of every step, all pieces one after the other, so that their scores sum highest."""
    clips, _, steps = scores.shape
    best = torch.full_like(scores[:, :, 0], -torch.inf)
    best[:, 0] = scores[:, 0, 0]
    nothing = best.new_full((clips, 1), -torch.inf)
    moves = []
    for step in range(1, steps):
        from_before = torch.cat([nothing, best[:, :-1]], dim=1)
        moves.append(from_before > best)
        best = torch.maximum(from_before, best) + scores[:, :, step]
    piece = num_pieces - 1
    path = [piece]
    for moved in reversed(moves):
        piece = piece - moved.gather(1, piece[:, None])[:, 0].long()
        path.append(piece)
    return torch.stack(path[::-1], dim=1)


def laid_out(
    pieces: Sequence[WrittenPiece], *, first_step: int, num_steps: int, num_queries: int
) -> list[int]:
    """The token written at every query of a clip, -1 for none.

    Args:
        pieces: in order.
        first_step: of the clip itself, behind the context before it.
        num_steps: of the clip itself.
        num_queries: its places; tokens beyond so many are left out.
    """
    tokens: list[int] = []
    wanted: list[int] = []
    is_ours = False
    for place, piece in enumerate(pieces):
        step = piece.moment - first_step
        if piece.begins_word or place == 0:
            is_ours = 0 <= step < num_steps
        if is_ours:
            tokens += piece.tokens
            wanted += [step * num_queries // num_steps] * len(piece.tokens)
    tokens = tokens[:num_queries]
    written = [-1] * num_queries
    for token, query in zip(tokens, _free_places(wanted[:num_queries], num_queries), strict=True):
        written[query] = token
    return written


def _free_places(wanted: Sequence[int], num_queries: int) -> list[int]:
    """A place for each, in order: the wanted one, or the next; at the end so that all find room."""
    places: list[int] = []
    for number, place in enumerate(wanted):
        last = num_queries - (len(wanted) - number)
        earliest = places[-1] + 1 if places else 0
        places.append(min(max(place, earliest), last))
    return places
