"""The text of a spoken answer, cut into the chunks the talker says one by one.

In:  ids of an answer, `… <speech_start> voice <speech_prompt> text <speech_end> …`, any number of
     such spans.  Out: where the text is cut, and per chunk the ids of voice and text.
It serves the talker (`unimoe.heads`), which nothing feeds by itself so far.
A chunk ends at punctuation, or anywhere once it is long, but never inside a number.
Source: release (docs/sources.md#speech-chunks).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from unimoe.config import SpecialTokens
from unimoe.errors import RequestError

_MIN_CHUNK_TOKENS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechTokens:
    """Ids that steer the cuts."""

    speech_start: int
    speech_prompt: int
    speech_end: int
    breaks: frozenset[int]
    """Tokens of punctuation after which a chunk may end."""
    digits: frozenset[int]
    full_stop: int
    """Ends a chunk that has no punctuation of its own."""

    @classmethod
    def of_qwen(cls, special_tokens: SpecialTokens) -> SpeechTokens:
        """The punctuation and digits of the Qwen2 vocabulary, as released.

        In order: full stop, comma, question mark, exclamation mark, semicolon, full stop with one
        and with two newlines; then full-width full stop, comma, question mark, exclamation mark,
        colon, semicolon, full stop with one and with two newlines. The ASCII colon is not one.
        That the checkpoint's tokenizer has them under these ids is taken for granted, not checked.

        Raises:
            RequestError: the checkpoint has no speech tokens.
        """
        start, prompt, end = (
            special_tokens.speech_start,
            special_tokens.speech_prompt,
            special_tokens.speech_end,
        )
        if start is None or prompt is None or end is None:
            raise RequestError(
                f"speech_start is {start}, speech_prompt {prompt}, speech_end {end}; "
                "a checkpoint that speaks has all three"
            )
        return cls(
            speech_start=start,
            speech_prompt=prompt,
            speech_end=end,
            breaks=frozenset(
                [13, 11, 30, 0, 26, 624, 382, 1773, 3837, 11319, 6313, 5122, 24968, 8997, 3407]
            ),
            digits=frozenset(range(15, 25)),
            full_stop=13,
        )


class SpeechChunk(NamedTuple):
    """What the talker gets at once."""

    voice_ids: list[int]
    text_ids: list[int]


class _Span(NamedTuple):
    """Indices of one spoken span: its first voice token, speech_prompt, the end of its text."""

    voice_start: int
    prompt: int
    end: int


class SpeechPlan(NamedTuple):
    """All chunks of an answer in order; `cuts` are the indices in the answer where one begins."""

    cuts: list[int]
    chunks: list[SpeechChunk]


def split_speech(
    answer_ids: Sequence[int],
    tokens: SpeechTokens,
    *,
    max_answer_tokens: int = 2048,
    max_chunk_tokens: int = 16,
) -> SpeechPlan:
    """Cut what an answer says aloud into chunks; an answer without speech gives none.

    Args:
        answer_ids: the generated ids.
        tokens: control, punctuation and digit ids.
        max_answer_tokens: an answer of this length that never ended its speech was cut off while
            it repeated itself; all but the first of the repeated tokens are dropped.
        max_chunk_tokens: a longer chunk ends at the next token that splits no number.
    """
    ids = _finished(list(answer_ids), tokens, max_answer_tokens)
    cuts: list[int] = []
    chunks: list[SpeechChunk] = []
    for span in _spans(ids, tokens):
        span_cuts = _span_cuts(ids, span, tokens, max_chunk_tokens)
        cuts += span_cuts
        edges = [span.prompt + 1, *span_cuts, span.end]
        for start, stop in itertools.pairwise(edges):
            if start < stop:
                text = _ending_in_a_break(ids[start:stop], tokens)
                chunks.append(SpeechChunk(ids[span.voice_start : span.prompt], text))
    return SpeechPlan(cuts, chunks)


def _finished(ids: list[int], tokens: SpeechTokens, max_answer_tokens: int) -> list[int]:
    spans = _spans(ids, tokens)
    if len(ids) < max_answer_tokens or not spans or spans[-1].end < len(ids):
        return ids
    while len(ids) >= 2 and ids[-1] == ids[-2]:
        ids.pop()
    return [*ids, tokens.full_stop, tokens.speech_end]


def _spans(ids: list[int], tokens: SpeechTokens) -> list[_Span]:
    spans: list[_Span] = []
    voice_start = 0
    prompt: int | None = None
    for index, token in enumerate(ids):
        if token == tokens.speech_start:
            voice_start = index + 1
        elif token == tokens.speech_prompt:
            prompt = index
        elif token == tokens.speech_end and prompt is not None:
            spans.append(_Span(voice_start, prompt, index))
            prompt = None
    if prompt is not None:  # cut off or still growing: say what is there
        spans.append(_Span(voice_start, prompt, len(ids)))
    return spans


def _span_cuts(
    ids: list[int], span: _Span, tokens: SpeechTokens, max_chunk_tokens: int
) -> list[int]:
    cuts: list[int] = []
    # The first chunk is measured from the prompt token, one before its text, as released.
    start = span.prompt
    for index in range(span.prompt + 1, span.end):
        following = ids[index + 1] if index + 1 < len(ids) else tokens.speech_end
        is_too_long = index - start > max_chunk_tokens
        splits_number = following in tokens.digits
        at_break = ids[index] in tokens.breaks and following != tokens.speech_end
        if (is_too_long and not splits_number and following not in tokens.breaks) or (
            at_break and not splits_number and index + 1 - start > _MIN_CHUNK_TOKENS
        ):
            cuts.append(index + 1)
            start = index + 1
    return cuts


def _ending_in_a_break(text_ids: list[int], tokens: SpeechTokens) -> list[int]:
    return text_ids if text_ids[-1] in tokens.breaks else [*text_ids, tokens.full_stop]
