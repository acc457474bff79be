"""Writer: a frozen Whisper decoder writes down what is said in a clip.

In:  states of clips [clips, steps, width].  Out: what is written in the places of their queries
     [clips, queries, width], see `written_words`.
It decodes greedily, many clips at once. Whisper was trained on 30 seconds: without the silence that
used to follow a short recording it writes on and on. States of that silence, a few for all of it,
stand behind those of every clip.
Source: openai/whisper-tiny.en; the silence is ours (docs/sources.md#audio).
Axes: steps = states of a clip and its context, kept = steps and silence, new = pieces of this call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from unimoe.config import AudioConfig, WriterConfig
from unimoe.encoders.written_words import (
    NUM_DIGITS,
    WrittenPiece,
    digits,
    laid_out,
    moments,
    written_tokens,
)

CLIPS_WRITTEN_TOGETHER = 16
NUM_PROMPT_TOKENS = 2
WINDOW_STEPS = 1500
"""Of Whisper's 30 seconds."""

NOT_WRITTEN, CONTINUES_WORD, BEGINS_WORD, NO_SPEECH = range(4)
"""Kinds of Whisper's pieces. One that begins a remark on sounds, such as `[Music]`, says that there
is no speech if it is what Whisper would write first; it is never written."""


class Transcript(NamedTuple):
    """What was written of some clips."""

    pieces: Int[Tensor, "clips pieces"]
    """Of Whisper, the end included."""
    num_pieces: Int[Tensor, " clips"]
    """The end included."""
    attention: Float[Tensor, "clips heads pieces steps"]
    """Of the alignment heads while each piece was written, to the sound alone."""


class _Step(NamedTuple):
    """What the decoder makes of the last piece."""

    hidden: Float[Tensor, "clips width"]
    attention: Float[Tensor, "clips heads kept"]


@dataclass
class _Memory:
    """Keys and values that the next piece can read, layer by layer."""

    sound_keys: list[Float[Tensor, "clips heads head_dim kept"]]
    sound_values: list[Float[Tensor, "clips heads kept head_dim"]]
    weights: Float[Tensor, " kept"]
    """Logarithm of how many states each one stands for."""
    text_keys: Float[Tensor, "layers clips heads stored head_dim"]
    text_values: Float[Tensor, "layers clips heads stored head_dim"]
    num_stored: int = 0

    def of(self, is_chosen: Bool[Tensor, " clips"]) -> _Memory:
        """Those of some clips."""
        return _Memory(
            [keys[is_chosen] for keys in self.sound_keys],
            [values[is_chosen] for values in self.sound_values],
            self.weights,
            self.text_keys[:, is_chosen],
            self.text_values[:, is_chosen],
            self.num_stored,
        )


def pieces_before_loop(pieces: Sequence[int]) -> int:
    """How many there are until they repeat themselves to the end: 3 of `[5, 7, 8, 7, 8, 7]`."""
    for period in range(1, len(pieces) // 2 + 1):
        if pieces[-period:] == pieces[-2 * period : -period]:
            first = len(pieces) - period
            while first > 0 and pieces[first - 1] == pieces[first - 1 + period]:
                first -= 1
            return first + period
    return len(pieces)


class Writer(nn.Module):
    """Writes; nothing of it learns.

    A new one may write nothing: `pieces` says what Whisper's pieces are to the core.
    """

    def __init__(self, config: AudioConfig, settings: WriterConfig, decoder: nn.Module) -> None:
        super().__init__()
        self.settings = settings
        self.num_queries = config.queries_per_clip
        self.first_step = config.context_frames // 2
        self.num_steps = config.clip_frames // 2
        self.num_heads = config.num_heads
        self.decoder: Any = decoder
        self.kinds = nn.Parameter(torch.zeros(settings.vocab_size))
        """Of every piece of Whisper."""
        self.tokens = nn.Parameter(
            torch.zeros(settings.vocab_size, settings.max_tokens_per_piece, NUM_DIGITS)
        )
        """Of the core, for every piece, as digits."""
        self.silence = nn.Parameter(torch.zeros(settings.num_silent_states, config.hidden_size))
        silent_steps = max(WINDOW_STEPS - config.max_source_positions, settings.num_silent_states)
        self.weight_of_silence = math.log(silent_steps / settings.num_silent_states)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(
        self, states: Float[Tensor, "clips steps width"], is_sound: Bool[Tensor, "clips steps"]
    ) -> Float[Tensor, "clips queries width"]:
        """What is written at every query: digits of a token of the core, then zeros.

        Args:
            states: of the tower.
            is_sound: steps in which there is any.
        """
        with torch.autocast(states.device.type, enabled=False):
            transcript = self.transcribe(states.to(self.silence.dtype))
        at = moments(transcript.attention, transcript.num_pieces, is_sound).tolist()
        written = torch.tensor(
            [
                laid_out(
                    self._written(pieces[: count - 1], steps),
                    first_step=self.first_step,
                    num_steps=self.num_steps,
                    num_queries=self.num_queries,
                )
                for pieces, count, steps in zip(
                    transcript.pieces, transcript.num_pieces.tolist(), at, strict=True
                )
            ],
            device=states.device,
        )
        padding = states.shape[-1] - NUM_DIGITS
        return functional.pad(digits(written), (0, padding)).to(states.dtype)

    def _written(self, pieces: Int[Tensor, " pieces"], steps: list[int]) -> list[WrittenPiece]:
        kinds = self.kinds[pieces].tolist()
        tokens = written_tokens(self.tokens[pieces].float()).tolist()
        return [
            WrittenPiece([token for token in own if token >= 0], step, kind == BEGINS_WORD)
            for own, step, kind in zip(tokens, steps, kinds, strict=False)
        ]

    @torch.no_grad()
    def transcribe(self, states: Float[Tensor, "clips steps width"]) -> Transcript:
        """What Whisper writes of every clip, the likeliest piece each time.

        Of a clip without speech it is the end alone. One that does not end is cut where it begins
        to repeat itself; what it would have repeated then counts as its end.
        """
        clips, steps, _ = states.shape
        settings, device = self.settings, states.device
        num_most = settings.max_pieces + 1
        pieces = torch.full((clips, num_most), settings.end, device=device)
        num_pieces = torch.full((clips,), num_most, device=device)
        heads = len(settings.alignment_heads)
        attention = torch.zeros(clips, heads, num_most, steps, device=device)
        memory = self._memory(states)
        rows = torch.arange(clips, device=device)  # of the clips that memory holds
        is_open = torch.ones_like(rows, dtype=torch.bool)
        ids = torch.tensor([[settings.start, settings.no_timestamps]], device=device)
        ids = ids.expand(clips, -1)
        can_write = self._can_write()
        for place in range(settings.max_pieces):
            step = self._step(ids, memory)
            scores = functional.linear(step.hidden, self.decoder.embed_tokens.weight).float()
            best = scores.masked_fill(~can_write, -torch.inf).argmax(-1)
            if place == 0:
                is_remark = self.kinds[scores.argmax(-1)] == NO_SPEECH
                best = best.masked_fill(is_remark, settings.end)
            attention[rows[is_open], :, place] = step.attention[is_open, :, :steps].float()
            pieces[rows[is_open], place] = best[is_open]
            num_pieces[rows[is_open & (best == settings.end)]] = place + 1
            is_open &= best != settings.end
            num_open = int(is_open.sum())
            if num_open == 0:
                break
            if 2 * num_open <= len(rows):  # letting go of every single one would copy too much
                memory, rows, best = memory.of(is_open), rows[is_open], best[is_open]
                is_open = is_open[is_open]
            ids = best[:, None]
        for row in (num_pieces == num_most).nonzero()[:, 0].tolist():
            num_pieces[row] = pieces_before_loop(pieces[row, :-1].tolist()) + 1
        longest = int(num_pieces.max())
        return Transcript(pieces[:, :longest], num_pieces, attention[:, :, :longest])

    def _can_write(self) -> Bool[Tensor, " vocab"]:
        """What may follow: pieces that the core can say, and the end; no other control tokens."""
        can_write = (self.kinds == CONTINUES_WORD) | (self.kinds == BEGINS_WORD)
        can_write[self.settings.start :] = False
        can_write[self.settings.end] = True
        return can_write

    def _memory(self, states: Float[Tensor, "clips steps width"]) -> _Memory:
        """What all steps read: keys and values of sound and silence, and room for those of text."""
        layers = self.decoder.layers
        num_stored = NUM_PROMPT_TOKENS + self.settings.max_pieces
        room = states.new_zeros(
            2, len(layers), len(states), self.num_heads, num_stored, self._head_dim
        )
        weights = states.new_zeros(states.shape[1] + len(self.silence))
        weights[states.shape[1] :] = self.weight_of_silence
        # In the order in which they are multiplied: copied once, not for every piece.
        keys = [self._of_sound(layer.encoder_attn.k_proj, states).mT for layer in layers]
        values = [self._of_sound(layer.encoder_attn.v_proj, states) for layer in layers]
        return _Memory([each.contiguous() for each in keys], values, weights, *room)

    def _of_sound(
        self, project: nn.Module, states: Float[Tensor, "clips steps width"]
    ) -> Float[Tensor, "clips heads kept head_dim"]:
        """Keys or values of sound, and of silence behind it."""
        silence = self._heads(project(self.silence[None])).expand(len(states), -1, -1, -1)
        return torch.cat([self._heads(project(states)), silence], dim=2)

    def _step(self, ids: Int[Tensor, "clips new"], memory: _Memory) -> _Step:
        """One forward of the decoder, keys and values of the new pieces stored."""
        stop = memory.num_stored + ids.shape[1]
        positions = self.decoder.embed_positions.weight[memory.num_stored : stop]
        hidden = self.decoder.embed_tokens(ids) + positions
        attention = []
        for number, layer in enumerate(self.decoder.layers):
            hidden = hidden + self._read_text(layer, hidden, memory, number)
            read, shares = self._read_sound(layer, hidden, memory, number)
            hidden = hidden + read
            inner = functional.gelu(layer.fc1(layer.final_layer_norm(hidden)))
            hidden = hidden + layer.fc2(inner)
            attention += [
                shares[:, head, -1]
                for its_layer, head in self.settings.alignment_heads
                if its_layer == number
            ]
        memory.num_stored = stop
        return _Step(self.decoder.layer_norm(hidden[:, -1]), torch.stack(attention, dim=1))

    def _read_text(
        self, layer: Any, hidden: Float[Tensor, "clips new width"], memory: _Memory, number: int
    ) -> Float[Tensor, "clips new width"]:
        """What a layer's attention takes from the pieces so far."""
        new = slice(memory.num_stored, memory.num_stored + hidden.shape[1])
        attend, normed = layer.self_attn, layer.self_attn_layer_norm(hidden)
        memory.text_keys[number][:, :, new] = self._heads(attend.k_proj(normed))
        memory.text_values[number][:, :, new] = self._heads(attend.v_proj(normed))
        read = functional.scaled_dot_product_attention(
            self._heads(attend.q_proj(normed)),
            memory.text_keys[number][:, :, : new.stop],
            memory.text_values[number][:, :, : new.stop],
            is_causal=hidden.shape[1] > 1,  # the prompt alone has several
        )
        out: Tensor = attend.out_proj(read.transpose(1, 2).flatten(2))
        return out

    def _read_sound(
        self, layer: Any, hidden: Float[Tensor, "clips new width"], memory: _Memory, number: int
    ) -> tuple[Float[Tensor, "clips new width"], Float[Tensor, "clips heads new kept"]]:
        """What it takes from sound and silence, and where it looked."""
        attend, normed = layer.encoder_attn, layer.encoder_attn_layer_norm(hidden)
        queries = self._heads(attend.q_proj(normed)) * self._head_dim**-0.5
        scores = queries @ memory.sound_keys[number] + memory.weights
        shares = scores.float().softmax(-1).to(scores.dtype)
        read = shares @ memory.sound_values[number]
        return attend.out_proj(read.transpose(1, 2).flatten(2)), shares

    @property
    def _head_dim(self) -> int:
        return self.silence.shape[1] // self.num_heads

    def _heads(
        self, values: Float[Tensor, "clips places width"]
    ) -> Float[Tensor, "clips heads places head_dim"]:
        clips, places, _ = values.shape
        return values.view(clips, places, self.num_heads, -1).transpose(1, 2)
