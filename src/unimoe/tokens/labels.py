"""Which tokens of a conversation are trained on: labels for next-token prediction.

In:  token ids int64 [seq] of one conversation.
Out: labels int64 [seq], the id where a token is trained and -100 where not; the shift by one
     between a token and its prediction is the loss function's.

    ids        … <start> user ↵ Hi <end> ↵ <start> assistant ↵ Hello <end> ↵
    assistant  …    -     -   - -    -   -    -        -     - Hello <end> -
    released   …    -     -   - -    -   -    -        -     - Hello <end> ↵

(… is a system turn: the released rule counts turns.)
Source: release (docs/sources.md#labels).
"""

from __future__ import annotations

import dataclasses
import itertools

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from unimoe.config import SpecialTokens

IGNORED = -100
_HEADER_TOKENS = 3  # <|im_start|>, the role, the newline


def released_labels(
    input_ids: Int64[Tensor, " seq"], *, turn_start: int, assistant: int
) -> Int64[Tensor, " seq"]:
    """Labels as the release makes them.

    Turns are told by their number: the first is the system's, then user and assistant alternate.
    Of an assistant turn all is trained after its header, the newline after its end token included;
    and always the very last token, whatever it is. The release fails on an even number of turns (no
    system turn, or the user has the last word); here turns are then told by their role.

    Args:
        input_ids: a conversation in ChatML form.
        turn_start: id of `<|im_start|>`.
        assistant: id of the role's name.
    """
    labels = torch.full_like(input_ids, IGNORED)
    starts = (input_ids == turn_start).nonzero().flatten().tolist()
    for number, (start, end) in enumerate(itertools.pairwise([*starts, len(input_ids)])):
        if len(starts) % 2:
            is_answer = number >= 2 and number % 2 == 0
        else:
            is_answer = assistant in input_ids[start + 1 : start + 2].tolist()
        if is_answer:
            labels[start + _HEADER_TOKENS : end] = input_ids[start + _HEADER_TOKENS : end]
    labels[-1:] = input_ids[-1:]
    return labels


def assistant_labels(
    input_ids: Int64[Tensor, " seq"],
    is_answer: Bool[Tensor, " seq"],
    *,
    special_tokens: SpecialTokens,
) -> Int64[Tensor, " seq"]:
    """Labels on the assistant's words and the token that ends them; for our own training.

    Args:
        input_ids: a conversation in any form.
        is_answer: words of the assistant and the end token after them.
        special_tokens: media inside an answer are context, never trained.
    """
    media_fields = [
        value
        for name, value in dataclasses.asdict(special_tokens).items()
        if name.startswith(("vision_", "image_", "video_", "audio_")) and value is not None
    ]
    is_media = torch.isin(input_ids, torch.tensor(media_fields, dtype=input_ids.dtype))
    return torch.where(is_answer & ~is_media, input_ids, IGNORED)
