"""What a model needs to speak: the face of a speech head, without the head.

In:  a sentence of letters and marks.  Out: codes as they are written; of codes, their sound.
A head implements it (`unimoe.heads`); what speaks long texts (`unimoe.infer.speaking`) knows no
more of it.
Axes: samples = at `sample_rate_hz`, one channel, full scale at -1 and 1.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32


@runtime_checkable
class SpeechHead(Protocol):
    """Says a sentence."""

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of the voices it knows; the first one is the usual one."""
        ...

    @property
    def sample_rate_hz(self) -> int:
        """Of its sound."""
        ...

    @property
    def codes_per_second(self) -> float:
        """Codes of a second of sound."""
        ...

    def write(
        self,
        text: str,
        *,
        voice: str,
        pace: float = 1.0,
        context: Sequence[int] = (),
        seed: int | None = None,
    ) -> Iterator[int]:
        """The codes of one sentence, as they are written.

        Args:
            text: in the characters of `unimoe.tokens.spoken_form.SPEAKABLE`.
            voice: one of `voices`.
            pace: 1 is usual; 2 is twice as fast.
            context: last codes of the sentence before.
            seed: of a draw; the same one gives the same codes again. None: what is likeliest.
        """
        ...

    def sound(self, codes: Iterable[int]) -> Iterator[Float32[np.ndarray, " samples"]]:
        """Pieces of sound as soon as the codes allow; joined, the sound of all codes at once."""
        ...
