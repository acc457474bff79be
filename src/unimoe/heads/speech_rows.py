"""The rows the talker reads: a voice, the end of the last sentence, a text, and its codes.

In:  `SpeechExample`s: ids of text and codes.  Out: `SpeechBatch`, padded on the right.
A row, in brackets what is optional; the names are those of `Control`:

    VOICE_START voice VOICE_END [CONTEXT_START codes CONTEXT_END] TEXT_START text TEXT_END
    CODES_START codes

All before CODES_START, the prompt, see each other; codes see the prompt and the codes before them.
Source: released speech generator (docs/sources.md#talker).
Axes: seq = rows of the longest example.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unimoe.config import TalkerConfig
from unimoe.errors import RequestError

IGNORED = -100
"""A target nobody is asked for."""


class Control(IntEnum):
    """Control codes; in the code vocabulary they stand behind the codes, in this order."""

    TEXT_START = 0
    CODES_START = 1
    CODES_END = 2
    PAD = 3
    VOICE_START = 4
    VOICE_END = 5
    CONTEXT_START = 6
    CONTEXT_END = 7
    TEXT_END = 8

    def code(self, config: TalkerConfig) -> int:
        """Its id in the code vocabulary."""
        return config.num_codes + self


NUM_CONTROLS = len(Control)


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechExample:
    """What is said, and how."""

    voice_ids: Sequence[int]
    """Text that describes the voice: "Language: English; Speaker: Jenny;"."""
    text_ids: Sequence[int]
    context_codes: Sequence[int] | None = None
    """The last codes of the sentence before; None leaves their block out, () leaves it empty."""
    codes: Sequence[int] = ()
    """What to learn; empty to write them."""


class Rows(NamedTuple):
    """Ids one after the other, and which of them are text."""

    ids: Int[Tensor, " seq"]
    is_text: Bool[Tensor, " seq"]


class SpeechBatch(NamedTuple):
    """Examples side by side."""

    ids: Int[Tensor, "batch seq"]
    is_text: Bool[Tensor, "batch seq"]
    visible: Bool[Tensor, "batch seq seq"]
    """Who (second axis) sees whom (third)."""
    is_real: Bool[Tensor, "batch seq"] | None
    """False on padding; None: padding takes experts like everything else, as released."""
    targets: Int[Tensor, "batch seq"]
    """What follows each row: a code, CODES_END, or IGNORED."""


def voice_and_context(example: SpeechExample, config: TalkerConfig) -> list[Rows]:
    """The first block of the prompt and the optional second one."""
    voice = [
        control_row(Control.VOICE_START, config),
        _text(example.voice_ids, "voice_ids", config),
        control_row(Control.VOICE_END, config),
    ]
    if example.context_codes is None:
        return voice
    return [
        *voice,
        control_row(Control.CONTEXT_START, config),
        code_rows(example.context_codes, "context_codes", config),
        control_row(Control.CONTEXT_END, config),
    ]


def text_rows(example: SpeechExample, config: TalkerConfig) -> list[Rows]:
    """The last block of the prompt.

    Raises:
        RequestError: no text, or an id outside of its vocabulary.
    """
    if not len(example.text_ids):
        raise RequestError("there is no text to speak; text_ids is empty")
    return [
        control_row(Control.TEXT_START, config),
        _text(example.text_ids, "text_ids", config),
        control_row(Control.TEXT_END, config),
    ]


def collate_speech(examples: Sequence[SpeechExample], config: TalkerConfig) -> SpeechBatch:
    """A batch of which every row is what it would be alone.

    Raises:
        RequestError: an id outside of its vocabulary, or no text.
    """
    prompts = [
        joined([*voice_and_context(example, config), *text_rows(example, config)])
        for example in examples
    ]
    codes = [code_rows(example.codes, "codes", config) for example in examples]
    codes_start = control_row(Control.CODES_START, config)
    rows = [
        joined([prompt, codes_start, each]) for prompt, each in zip(prompts, codes, strict=True)
    ]
    ids, is_text = stacked(rows, config)
    starts = [len(prompt.ids) for prompt in prompts]
    lengths = torch.tensor([len(row.ids) for row in rows])
    position = torch.arange(ids.shape[1])
    # Padding comes last and nothing real sees it; it sees itself, so that no row is empty.
    in_prompt = position < torch.tensor(starts)[:, None]
    visible = in_prompt[:, None, :] | (position[None, :] <= position[:, None])
    is_real = position < lengths[:, None]
    return SpeechBatch(ids, is_text, visible, is_real, targets_of(codes, starts, config))


def joined(parts: Sequence[Rows]) -> Rows:
    """One after the other."""
    return Rows(
        torch.cat([part.ids for part in parts]), torch.cat([part.is_text for part in parts])
    )


def stacked(
    rows: Sequence[Rows], config: TalkerConfig
) -> tuple[Int[Tensor, "batch seq"], Bool[Tensor, "batch seq"]]:
    """Ids and kinds side by side; the shorter ones end in PAD."""
    ids = pad_sequence([row.ids for row in rows], True, float(Control.PAD.code(config)))
    return ids, pad_sequence([row.is_text for row in rows], True, False)


def targets_of(
    codes: Sequence[Rows], starts: Sequence[int], config: TalkerConfig
) -> Int[Tensor, "batch seq"]:
    """What follows each row: codes and their end from row `starts` on, before that nothing."""
    end = torch.tensor([Control.CODES_END.code(config)])
    rows = [
        torch.cat([torch.full((start,), IGNORED), each.ids, end])
        for each, start in zip(codes, starts, strict=True)
    ]
    return pad_sequence(rows, True, IGNORED)


def control_row(control: Control, config: TalkerConfig) -> Rows:
    """A control code."""
    return Rows(torch.tensor([control.code(config)]), torch.tensor([False]))


def code_rows(codes: Sequence[int], name: str, config: TalkerConfig) -> Rows:
    """Codes of the codec."""
    return _rows(codes, name, config.num_codes, is_text=False)


def _text(ids: Sequence[int], name: str, config: TalkerConfig) -> Rows:
    return _rows(ids, name, config.text_vocab_size, is_text=True)


def _rows(ids: Sequence[int], name: str, count: int, *, is_text: bool) -> Rows:
    values = torch.tensor(list(ids), dtype=torch.long)
    wrong = values[(values < 0) | (values >= count)]
    if len(wrong):
        raise RequestError(f"{name} holds {int(wrong[0])}; the talker knows 0 to {count - 1}")
    return Rows(values, torch.full_like(values, is_text, dtype=torch.bool))
