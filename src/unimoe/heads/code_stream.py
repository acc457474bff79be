"""Codes that still come, decoded piece by piece: the sound is that of all codes at once.

In:  codes one after the other.  Out: float32 [samples], a piece at a time.
A piece is decoded among its neighbours. What a piece cannot know is where the pulses of its source
stand: so the pitch of everything before it is kept, and pulses are counted from the beginning.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from unimoe.heads.mel_codec import MelCodec, Voice


class CodeStream:
    """The sound of one sequence of codes."""

    def __init__(self, codec: MelCodec) -> None:
        self._codec = codec
        self._codes: list[int] = []
        self._done = 0
        """Codes whose sound has been given."""
        self._hz = torch.zeros(0)
        self._is_voiced = torch.zeros(0, dtype=torch.bool)

    def push(self, code: int) -> None:
        """One more code."""
        self._codes.append(code)

    @property
    def num_left(self) -> int:
        """Codes whose sound has not been given."""
        return len(self._codes) - self._done

    @property
    def num_ready(self) -> int:
        """Those of them that have all neighbours they depend on."""
        return max(0, self.num_left - self._codec.reach)

    @torch.no_grad()
    def piece(self, num_codes: int) -> Float[Tensor, " samples"]:
        """The sound of the next codes; all that are left when there are no more to come."""
        codec, config = self._codec, self._codec.config
        reach, per_code, per_frame = codec.reach, config.samples_per_code, config.frames_per_code
        start, end = max(0, self._done - reach), self._done + num_codes
        codes = torch.tensor([self._codes[start : end + reach]])
        states = codec.decoder.states(codec.codebook[codes])
        found = codec.decoder.voice_of(states)
        known = self._done * per_frame
        self._hz = torch.cat([self._hz[:known], found.hz[0, known - start * per_frame :]])
        self._is_voiced = torch.cat(
            [self._is_voiced[:known], found.is_voiced[0, known - start * per_frame :]]
        )
        whole = Voice(self._hz[None], self._is_voiced[None])
        turns = codec.decoder.turns_of(whole)
        first = start * per_frame
        sound: Tensor = codec.decoder(
            states,
            Voice(whole.hz[:, first:], whole.is_voiced[:, first:]),
            turns=turns[:, first:],
            start_sample=start * per_code,
        )[0]
        given = sound[(self._done - start) * per_code : (end - start) * per_code]
        self._done = end
        return given
