"""The codec WavTokenizer: sound to codes and back.

In:  waveform float32 [batch, samples], mono, at the codec's rate.  Out: codes int64 [batch, frames]
of one codebook, one a hop; and the way back.
A code is the codebook row nearest to the encoder's vector; the decoder reads all rows at once (its
norms and its attention span the whole sound), so a sound is decoded whole.
Source: paper 2.4; WavTokenizer (docs/sources.md#codec).
Axes: frames = samples / hop, rounded up.
"""

from jaxtyping import Float, Int
from torch import Tensor, nn

from unimoe.config import CodecConfig
from unimoe.errors import RequestError
from unimoe.heads.codebook import nearest_rows, require_codes, require_sound
from unimoe.heads.seanet import SEANetEncoder
from unimoe.heads.vocos import SpectrumHead, VocosBackbone


class Codec(nn.Module):
    """Encoder, codebook, decoder."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = SEANetEncoder(config)
        self.codebook = nn.Embedding(config.num_codes, config.code_width)
        self.backbone = VocosBackbone(config)
        self.head = SpectrumHead(config)

    def encode(self, waveform: Float[Tensor, "batch samples"]) -> Int[Tensor, "batch frames"]:
        """The codes of a sound, one for every started hop.

        Raises:
            MediaError: no sound, or one that is not finite.
        """
        require_sound(waveform)
        return self.nearest_codes(self.encoder(waveform[:, None]).transpose(1, 2))

    def nearest_codes(
        self, vectors: Float[Tensor, "batch frames code_width"]
    ) -> Int[Tensor, "batch frames"]:
        """The codebook row of the smallest squared distance to each vector."""
        return nearest_rows(self.codebook.weight, vectors)

    def features(self, codes: Int[Tensor, "batch frames"]) -> Float[Tensor, "batch width frames"]:
        """The codebook rows of codes.

        Raises:
            RequestError: no codes, or one the codebook does not have.
        """
        require_codes(codes, self.config.num_codes)
        rows: Tensor = self.codebook(codes)
        return rows.transpose(1, 2)

    def decode(
        self, codes: Int[Tensor, "batch frames"], *, bandwidth_id: int = 0
    ) -> Float[Tensor, "batch samples"]:
        """The sound of codes, a hop of samples each.

        Args:
            codes: all of a sound; codes of several sentences are joined before.
            bandwidth_id: row of the adaptive norms; published models use the first.

        Raises:
            RequestError: no codes, one the codebook does not have, or no such row.
        """
        if not 0 <= bandwidth_id < self.config.num_bandwidths:
            raise RequestError(
                f"bandwidth_id is {bandwidth_id}; need 0 to {self.config.num_bandwidths - 1}"
            )
        waveform: Tensor = self.head(self.backbone(self.features(codes), bandwidth_id))
        return waveform
