"""The talker of mini: MoE-TTS that knows at every code which letter it is saying.

In:  a voice, letters, the last codes of the sentence before.  Out: how long every letter lasts, and
codes under each letter.
The rows and the network are those of the talker (`speech_rows`, `moe_tts`). What it is spared is to
find its place in the text: the prompt's states say how many codes each letter lasts, and every code
is written under the letter that is being said, with its neighbours and how much of it is left. A
sentence can then neither repeat itself nor end early, its length is known before it begins, and a
pace is a factor on durations.
Source: paper 2.4; durations as in FastSpeech; the combination is ours.
Axes: characters = of the text, padded; seq = rows of a batch; codes = of the longest example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from unimoe.config import TimedTalkerConfig
from unimoe.heads.moe_tts import MoETTS
from unimoe.heads.speech_rows import IGNORED, SpeechBatch, SpeechExample, collate_speech
from unimoe.nn.attention import KeyValueStore

_NEAR_KERNEL = 7
_NUM_CLOCKS = 3
"""How much of the letter is over, how much is left, how long it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedExample:
    """A sentence and how its letters lie along its codes."""

    speech: SpeechExample
    durations: Sequence[int]
    """Codes of every character of `speech.text_ids`; they add up to `speech.codes`."""


class TimedBatch(NamedTuple):
    """Examples side by side."""

    rows: SpeechBatch
    text_starts: Int[Tensor, " batch"]
    """Row of the first character."""
    code_starts: Int[Tensor, " batch"]
    """Row that writes the first code."""
    text_ids: Int[Tensor, "batch characters"]
    durations: Int[Tensor, "batch characters"]
    """0 on padding."""


class Moments(NamedTuple):
    """What is being said at every code."""

    character: Int[Tensor, "batch codes"]
    clock: Float[Tensor, "batch codes clocks"]


class TimedTalker(nn.Module):
    """MoE-TTS, durations, and the letters near every code."""

    def __init__(self, config: TimedTalkerConfig) -> None:
        super().__init__()
        self.config = config
        talker = config.talker
        self.talker = MoETTS(talker)
        self.near = nn.Conv1d(
            talker.text_width, talker.hidden_size, _NEAR_KERNEL, padding=_NEAR_KERNEL // 2
        )
        self.clock = nn.Linear(_NUM_CLOCKS, talker.hidden_size)
        self.duration = nn.Sequential(
            nn.Linear(talker.hidden_size, talker.hidden_size),
            nn.SiLU(),
            nn.Linear(talker.hidden_size, 1),
        )

    def letters_near(
        self,
        text_ids: Int[Tensor, "batch characters"],
        is_character: Bool[Tensor, "batch characters"],
    ) -> Float[Tensor, "batch characters hidden"]:
        """Every character with its neighbours; padding is nobody's neighbour."""
        embeddings = self.talker.text_embedding(text_ids) * is_character[..., None]
        near: Tensor = self.near(embeddings.transpose(1, 2)).transpose(1, 2)
        return near

    def said_at(
        self, near: Float[Tensor, "batch characters hidden"], moments: Moments
    ) -> Float[Tensor, "batch codes hidden"]:
        """What is added to the rows that write codes."""
        chosen = moments.character[..., None].expand(-1, -1, near.shape[-1])
        said: Tensor = near.gather(1, chosen) + self.clock(moments.clock.to(near.dtype))
        return said

    def forward(
        self,
        inputs_embeds: Float[Tensor, "batch new hidden"],
        visible: Tensor | None,
        cache: KeyValueStore | None = None,
        is_real: Tensor | None = None,
    ) -> Float[Tensor, "batch new hidden"]:
        """The talker's states; see `MoETTS.forward`."""
        states: Tensor = self.talker(inputs_embeds, visible, cache=cache, is_real=is_real)
        return states

    def durations(
        self, states: Float[Tensor, "batch characters hidden"]
    ) -> Float[Tensor, "batch characters"]:
        """Codes each character lasts, from the prompt's states at the characters."""
        return self.log_durations(states).expm1().clamp_min(0)

    def log_durations(
        self, states: Float[Tensor, "batch characters hidden"]
    ) -> Float[Tensor, "batch characters"]:
        """Logarithms of one more than the durations, which are learned."""
        found: Tensor = self.duration(states)[..., 0].float()
        return found


def collate_timed(examples: Sequence[TimedExample], config: TimedTalkerConfig) -> TimedBatch:
    """A batch of which every row is what it would be alone.

    Raises:
        RequestError: as `collate_speech`.
    """
    speech = [example.speech for example in examples]
    rows = collate_speech(speech, config.talker)
    ends = [_prompt_length(each) for each in speech]
    text_ids = [torch.tensor(list(each.text_ids)) for each in speech]
    return TimedBatch(
        rows,
        torch.tensor([end - 1 - len(text) for end, text in zip(ends, text_ids, strict=True)]),
        torch.tensor(ends),
        pad_sequence(text_ids, batch_first=True),
        pad_sequence([torch.tensor(list(e.durations)) for e in examples], batch_first=True),
    )


def moments_of(durations: Int[Tensor, "batch characters"]) -> Moments:
    """What is said at every code; codes beyond the end count as the last character."""
    ends = durations.cumsum(1)
    codes = torch.arange(int(ends[:, -1].max()))
    character = torch.searchsorted(ends, codes.expand(len(ends), -1).contiguous(), right=True)
    character = character.clamp(max=durations.shape[1] - 1)
    length = durations.gather(1, character).clamp_min(1)
    over = codes - (ends - durations).gather(1, character)
    clock = torch.stack([over / 8, (length - over) / 8, length.log1p() / 2], dim=-1)
    return Moments(character, clock)


def timed_losses(
    model: TimedTalker, batch: TimedBatch, *, forgotten: float = 0.0
) -> dict[str, Float[Tensor, ""]]:
    """Cross entropy of the codes, and the error of log durations.

    Args:
        model: the talker.
        batch: examples.
        forgotten: share of the codes read that are replaced by others, so that the talker trusts
            the letters and lives with its own mistakes.
    """
    rows = batch.rows
    is_code = rows.targets != IGNORED
    ids = rows.ids
    if forgotten:
        is_lost = (torch.rand(ids.shape) < forgotten) & is_code & ~rows.is_text
        is_lost.scatter_(1, batch.code_starts[:, None], False)
        ids = torch.where(is_lost, torch.randint_like(ids, model.config.talker.num_codes), ids)
    inputs = model.talker.embed(ids, rows.is_text)
    moments = moments_of(batch.durations)
    is_character = torch.arange(batch.durations.shape[1]) < _num_characters(batch)[:, None]
    said = model.said_at(model.letters_near(batch.text_ids, is_character), moments)
    place = batch.code_starts[:, None] + torch.arange(said.shape[1])
    is_said = torch.arange(said.shape[1]) < batch.durations.sum(1)[:, None]
    example = torch.arange(len(place))[:, None].expand_as(place)[is_said]
    inputs = inputs.index_put(
        (example, place[is_said]), said[is_said].to(inputs.dtype), accumulate=True
    )
    states = model(inputs, rows.visible, is_real=rows.is_real)
    logits = model.talker.head(states[is_code]).float()
    at_text = batch.text_starts[:, None] + torch.arange(batch.durations.shape[1])
    text_states = states.gather(
        1,
        at_text.clamp(max=states.shape[1] - 1)[..., None].expand(-1, -1, states.shape[-1]),
    )
    wanted = batch.durations.float().log1p()
    found = model.log_durations(text_states)
    return {
        "codes": functional.cross_entropy(logits, rows.targets[is_code]),
        "durations": functional.l1_loss(found[is_character], wanted[is_character]),
    }


def _num_characters(batch: TimedBatch) -> Int[Tensor, " batch"]:
    return batch.code_starts - 1 - batch.text_starts


def _prompt_length(example: SpeechExample) -> int:
    """Rows before the first code is written: all blocks and their brackets."""
    context = 0 if example.context_codes is None else len(example.context_codes) + 2
    return len(example.voice_ids) + 2 + context + len(example.text_ids) + 2
