"""How the codec learns: codes that keep what is said, and sound that is like the recording.

In:  recordings with their text.  Out: a `MelCodec`, and an `Aligner` that tells which letter is
spoken at which code.
The codebook follows its vectors by moving averages; rows nobody falls to are taken anew. Sound is
compared by its mel spectra at several windows. The letters of the text are read off the codes, by
CTC: that keeps speech in them, and places every letter in time, which the talker learns from.
Source: VQ-VAE-2 and SoundStream (averages, revival), Descript audio codec (spectra), CTC.
Axes: codes of the longest recording; crop = codes that are decoded; letters = `LETTERS` + blank.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from unimoe.config import MelCodecConfig
from unimoe.heads.aligner import Aligner, letters_of
from unimoe.heads.mel import mel_filters
from unimoe.heads.mel_codec import MIDDLE_HZ, MelCodec, Voice
from unimoe.nn.precision import mixed_precision
from unimoe.train.head_loop import HeadLoss
from unimoe.train.pitch import pitch_of
from unimoe.train.readings import ReadingBatch

_DECAY = 0.99
_FEWEST = 1.0
"""A row with fewer vectors, by its moving count, is taken anew."""
_FRESH = 5.0
"""What a new row counts as, so that it lives for a while."""
_CROP_CODES = 48
_MEL_WINDOWS = ((2048, 128), (1024, 80), (512, 64), (256, 32), (128, 16))
_LETTER_WEIGHT, _PITCH_WEIGHT = 0.25, 0.3


class LearningCodec(nn.Module):
    """Codec and aligner together, with what the codebook is averaged from."""

    counts: Tensor
    sums: Tensor

    def __init__(self, config: MelCodecConfig) -> None:
        super().__init__()
        self.codec = MelCodec(config)
        self.aligner = Aligner(config)
        self.register_buffer("counts", torch.zeros(config.num_codes))
        self.register_buffer("sums", torch.zeros(config.num_codes, config.code_width))
        self.spectra = nn.ModuleList(
            LogMel(window, bins, config.sample_rate_hz) for window, bins in _MEL_WINDOWS
        )

    @torch.no_grad()
    def go_on_from(self, codec: MelCodec) -> None:
        """Begin as a codec that has learned already; its rows are those to move from."""
        self.codec.load_state_dict(codec.state_dict())
        self.counts.fill_(_FRESH)
        self.sums.copy_(_FRESH * codec.codebook)

    @torch.no_grad()
    def follow(
        self, vectors: Float[Tensor, "vectors code_width"], codes: Int[Tensor, " vectors"]
    ) -> None:
        """Move the codebook towards vectors that fell to its rows; revive rows without any."""
        self.counts.mul_(_DECAY).index_add_(0, codes, vectors.new_ones(len(codes)))
        self.sums.mul_(_DECAY).index_add_(0, codes, vectors)
        is_dead = self.counts < _FEWEST
        num_dead = int(is_dead.sum())
        if num_dead:
            chosen = torch.randint(len(vectors), (num_dead,))
            self.counts[is_dead] = _FRESH
            self.sums[is_dead] = _FRESH * vectors[chosen]
        self.codec.codebook.copy_(self.sums / self.counts[:, None])


class LogMel(nn.Module):
    """Log-mel spectra of a sound through one window."""

    window: Tensor
    filters: Tensor

    def __init__(self, window_samples: int, num_bins: int, sample_rate_hz: int) -> None:
        super().__init__()
        self.hop_samples = window_samples // 4
        self.register_buffer("window", torch.hann_window(window_samples), False)
        filters = mel_filters(num_bins, window_samples, sample_rate_hz, (0.0, sample_rate_hz / 2))
        self.register_buffer("filters", filters, False)

    def forward(
        self, waveform: Float[Tensor, "batch samples"]
    ) -> Float[Tensor, "batch frames bins"]:
        """Logarithms to base 10."""
        pieces = waveform.unfold(-1, len(self.window), self.hop_samples)
        power = torch.fft.rfft(pieces * self.window).abs()
        mel: Tensor = power @ self.filters
        return mel.clamp_min(1e-4).log10()


def codec_objective(head: LearningCodec, batch: ReadingBatch) -> HeadLoss:
    """Sound, codes and letters of one batch."""
    codec = head.codec
    config = codec.config
    with mixed_precision(batch.waveform.device.type):
        vectors = codec.encoder(batch.waveform).float()
    is_real = _is_real(batch.lengths, vectors.shape[1], config)
    with torch.no_grad():
        codes = codec.nearest_codes(vectors)
        rows = codec.codebook[codes]
    if head.training and vectors.requires_grad:  # of an encoder that stays, the codes stay too
        head.follow(vectors.detach()[is_real], codes[is_real])
    commitment = functional.mse_loss(vectors[is_real], rows[is_real])
    passed = vectors + (rows - vectors).detach()
    letter = _letter_loss(head.aligner, passed, is_real, batch.texts)
    mel, pitch = _sound_losses(head, passed, batch)
    total = mel + commitment + _LETTER_WEIGHT * letter + _PITCH_WEIGHT * pitch
    parts = {"mel": mel, "commitment": commitment, "letter": letter, "pitch": pitch}
    return HeadLoss(total, {name: float(part.detach()) for name, part in parts.items()})


def _is_real(
    lengths: Int[Tensor, " batch"], num_codes: int, config: MelCodecConfig
) -> Bool[Tensor, "batch codes"]:
    """Which codes have sound of the recording in them."""
    starts = torch.arange(num_codes, device=lengths.device) * config.samples_per_code
    return starts < lengths[:, None]


def _letter_loss(
    aligner: Aligner,
    vectors: Float[Tensor, "batch codes code_width"],
    is_real: Bool[Tensor, "batch codes"],
    texts: tuple[str, ...],
) -> Float[Tensor, ""]:
    """CTC in nats a letter."""
    with mixed_precision(vectors.device.type):
        scores = aligner(vectors).float()
    targets = [letters_of(text) for text in texts]
    lengths = torch.tensor([len(target) for target in targets])
    losses = functional.ctc_loss(
        scores.log_softmax(-1).transpose(0, 1),
        torch.cat(targets),
        is_real.sum(1),
        lengths,
        reduction="sum",
        zero_infinity=True,
    )
    return losses / lengths.sum()


def _sound_losses(
    head: LearningCodec, vectors: Float[Tensor, "batch codes code_width"], batch: ReadingBatch
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Of a piece of every recording: distance of log-mel spectra, error of pitch and voicing.

    The sound is made with the pitch of the recording, so that its harmonics can be compared.
    """
    config, decoder = head.codec.config, head.codec.decoder
    per_code = config.samples_per_code
    crop = min(_CROP_CODES, vectors.shape[1])
    last = (batch.lengths // per_code - crop).clamp_min(0)
    starts = (torch.rand(len(last)) * (last + 1)).long()
    pieces = torch.stack([v[s : s + crop] for v, s in zip(vectors, starts, strict=True)])
    padded = functional.pad(batch.waveform, (0, per_code))
    wanted = torch.stack(
        [
            sound[start * per_code : (start + crop) * per_code]
            for sound, start in zip(padded, starts, strict=True)
        ]
    )
    pitch = pitch_of(wanted, config.hop_samples, config.sample_rate_hz)
    with mixed_precision(wanted.device.type):
        states = decoder.states(pieces)
        octaves, voiced = decoder.voice_scores(states)
        heard = decoder(states, Voice(pitch.hz, pitch.is_voiced))
    distances = [functional.l1_loss(spectrum(heard), spectrum(wanted)) for spectrum in head.spectra]
    is_voiced = pitch.is_voiced.float()
    wrong = (octaves - (pitch.hz / MIDDLE_HZ).log2()).abs()
    pitch_loss = (wrong * is_voiced).sum() / is_voiced.sum().clamp_min(1)
    pitch_loss = pitch_loss + functional.binary_cross_entropy_with_logits(voiced, is_voiced)
    return torch.stack(distances).mean(), pitch_loss


@torch.no_grad()
def codec_evaluation(head: LearningCodec, batch: ReadingBatch) -> dict[str, float]:
    """Losses on recordings, and the share of the codebook rows that are in use."""
    loss = codec_objective(head, batch)
    in_use = (head.counts > _FRESH * _DECAY).float().mean()
    return {**loss.parts, "codebook_use": float(in_use)}
