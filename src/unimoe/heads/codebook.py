"""One codebook: which row is nearest, and what can be encoded and decoded at all.

In:  vectors [batch, frames, code_width], or codes of other origin.  Out: codes; or an error.
Source: WavTokenizer (docs/sources.md#codec).
"""

from jaxtyping import Float, Int
from torch import Tensor

from unimoe.errors import MediaError, RequestError


def nearest_rows(
    table: Float[Tensor, "num_codes code_width"],
    vectors: Float[Tensor, "batch frames code_width"],
) -> Int[Tensor, "batch frames"]:
    """The row of the smallest squared distance to each vector."""
    # without the square of the vector itself, which all rows share
    return (table.square().sum(-1) - 2 * vectors @ table.t()).argmin(-1)


def require_sound(waveform: Float[Tensor, "batch samples"]) -> None:
    """Stop at what is no sound.

    Raises:
        MediaError: it is empty, or not finite.
    """
    if waveform.shape[-1] == 0:
        raise MediaError("the sound is empty; there is nothing to encode")
    if not bool(waveform.isfinite().all()):
        raise MediaError("the sound holds samples that are no finite numbers")


def require_codes(codes: Int[Tensor, "batch frames"], num_codes: int) -> None:
    """Stop at codes that a codebook does not have.

    Raises:
        RequestError: there is none, or one is out of range.
    """
    if codes.shape[-1] == 0:
        raise RequestError("there are no codes to decode")
    wrong = codes[(codes < 0) | (codes >= num_codes)]
    if len(wrong):
        raise RequestError(f"code {int(wrong[0])} to decode; the codec knows 0 to {num_codes - 1}")
