"""The codec of mini: sound to codes by its log-mel spectrum, and codes to sound, piece by piece.

In:  waveform float32 [batch, samples], mono, at the codec's rate.  Out: codes int64 [batch, codes]
of one codebook, 40 a second; and the way back.
Shaped like WavTokenizer: encoder, one codebook, ConvNeXt and attention, inverse Fourier transform.
Three differences make it fit a laptop. The encoder reads a spectrum instead of samples. The decoder
sees a bounded neighbourhood (norms over channels alone, attention to `attention_reach` codes), so
that a piece with enough neighbours sounds as it does in the whole; it ends at four spectra a code,
whose windows of 25 ms hold one pitch each; and what it filters is a source of that pitch.
Source: Vocos, WavTokenizer (docs/sources.md#codec); neural source-filter models. The combination is
ours.
Axes: codes = samples / samples_per_code, rounded up; frames = frames_per_code * codes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Complex, Float, Float64, Int
from torch import Tensor, nn
from torch.nn import functional

from unimoe.config import MelCodecConfig
from unimoe.heads.codebook import nearest_rows, require_codes, require_sound
from unimoe.heads.mel import mel_filters
from unimoe.heads.vocos import overlap_add

_CONV_REACH = 3
_CONV_KERNEL = 2 * _CONV_REACH + 1
_MAX_LOG_MAGNITUDE = 6.0
MIDDLE_HZ = 160.0
_NOISE_SECONDS = 4.1
"""After which it repeats."""
_MEL_FLOOR = 1e-3
_ROPE_BASE = 100.0


class MelCodec(nn.Module):
    """Encoder, codebook, decoder."""

    codebook: Float[Tensor, "num_codes code_width"]
    """Moving averages of the vectors that fall to each row, so no parameter."""

    def __init__(self, config: MelCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = MelEncoder(config)
        self.register_buffer("codebook", torch.zeros(config.num_codes, config.code_width))
        self.decoder = PieceDecoder(config)

    @property
    def reach(self) -> int:
        """Codes to either side that a piece of sound depends on."""
        config = self.config
        fine = _CONV_REACH * config.fine_layers[1] + -(
            -(config.window_samples - config.hop_samples) // (2 * config.hop_samples)
        )
        return (
            _CONV_REACH * (config.num_layers[1] + 1)
            + config.attention_reach
            + -(-fine // config.frames_per_code)
        )

    def encode(self, waveform: Float[Tensor, "batch samples"]) -> Int[Tensor, "batch codes"]:
        """The codes of a sound, one for every started `samples_per_code`.

        Raises:
            MediaError: no sound, or one that is not finite.
        """
        require_sound(waveform)
        return self.nearest_codes(self.encoder(waveform))

    def nearest_codes(
        self, vectors: Float[Tensor, "batch codes code_width"]
    ) -> Int[Tensor, "batch codes"]:
        """The codebook row of the smallest squared distance to each vector."""
        return nearest_rows(self.codebook, vectors)

    def decode(self, codes: Int[Tensor, "batch codes"]) -> Float[Tensor, "batch samples"]:
        """The sound of codes, `samples_per_code` each.

        Raises:
            RequestError: no codes, or one the codebook does not have.
        """
        require_codes(codes, self.config.num_codes)
        states = self.decoder.states(self.codebook[codes])
        waveform: Tensor = self.decoder(states, self.decoder.voice_of(states))
        return waveform


class MelEncoder(nn.Module):
    """Sound to a vector a code."""

    window: Tensor
    mel_filters: Tensor

    def __init__(self, config: MelCodecConfig) -> None:
        super().__init__()
        self.config = config
        fine, width = config.fine_width, config.hidden_size
        self.register_buffer("window", torch.hann_window(config.mel_window_samples), False)
        filters = mel_filters(
            config.num_mel_bins,
            config.mel_window_samples,
            config.sample_rate_hz,
            config.mel_range_hz,
        )
        self.register_buffer("mel_filters", filters, False)
        self.first = nn.Conv1d(config.num_mel_bins, fine, _CONV_KERNEL, padding=_CONV_REACH)
        self.fine = _blocks(fine, config.fine_layers[0], config)
        self.down = nn.Linear(config.frames_per_code * fine, width)
        self.blocks = _blocks(width, config.num_layers[0], config)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, config.code_width)

    def forward(
        self, waveform: Float[Tensor, "batch samples"]
    ) -> Float[Tensor, "batch codes code_width"]:
        """One vector for every started code."""
        mel = self.log_mel(waveform).to(self.first.weight.dtype)
        hidden = self.fine(self.first(mel.transpose(1, 2)).transpose(1, 2))
        batch, frames, fine = hidden.shape
        per_code = self.config.frames_per_code
        hidden = self.down(hidden.reshape(batch, frames // per_code, per_code * fine))
        vectors: Tensor = self.out(self.norm(self.blocks(hidden)))
        return vectors

    def log_mel(
        self, waveform: Float[Tensor, "batch samples"]
    ) -> Float[Tensor, "batch frames mel_bins"]:
        """Log-mel spectrum, `frames_per_code` for every started code, about -1 to 1."""
        config = self.config
        missing = -waveform.shape[-1] % config.samples_per_code
        edge = (config.mel_window_samples - config.hop_samples) // 2
        padded = functional.pad(waveform.float(), (edge, missing + edge))
        pieces = padded.unfold(-1, config.mel_window_samples, config.hop_samples)
        power = torch.fft.rfft(pieces * self.window).abs()
        mel: Tensor = (power @ self.mel_filters).clamp_min(_MEL_FLOOR)
        return mel.log() / 4 + 0.5


class Voice(NamedTuple):
    """What the cords do."""

    hz: Float[Tensor, "batch frames"]
    is_voiced: Bool[Tensor, "batch frames"]


class PieceDecoder(nn.Module):
    """A vector a code to sound: a source of pulses and noise, and a filter that changes over time.

    Pitch and voicing are read off the codes first. Pulses of that pitch and noise then go through
    the filters of every frame: harmonics stand where they belong without a discriminator that
    would have to ask for them.
    """

    window: Tensor
    noise: Tensor

    def __init__(self, config: MelCodecConfig) -> None:
        super().__init__()
        self.config = config
        fine, width = config.fine_width, config.hidden_size
        self.first = nn.Conv1d(config.code_width, width, _CONV_KERNEL, padding=_CONV_REACH)
        before = config.num_layers[1] // 2
        self.before = _blocks(width, before, config)
        self.attention = NearbyAttention(width, config.num_heads, config.attention_reach)
        self.after = _blocks(width, config.num_layers[1] - before, config)
        self.voice = nn.Linear(width, 2 * config.frames_per_code)
        self.up = nn.Linear(width, config.frames_per_code * fine)
        self.fine = _blocks(fine, config.fine_layers[1], config)
        self.norm = nn.LayerNorm(fine)
        self.filters = nn.Linear(fine, 3 * (config.window_samples // 2 + 1))
        self.register_buffer("window", torch.hann_window(config.window_samples), False)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(round(_NOISE_SECONDS * config.sample_rate_hz), generator=generator)
        self.register_buffer("noise", noise, False)

    def states(
        self, vectors: Float[Tensor, "batch codes code_width"]
    ) -> Float[Tensor, "batch codes hidden"]:
        """What voice and filters are made of."""
        hidden = self.first(vectors.transpose(1, 2)).transpose(1, 2)
        states: Tensor = self.after(self.attention(self.before(hidden)))
        return states

    def voice_scores(
        self, states: Float[Tensor, "batch codes hidden"]
    ) -> tuple[Float[Tensor, "batch frames"], Float[Tensor, "batch frames"]]:
        """Octaves above `MIDDLE_HZ`, and the logit of being voiced, of every frame."""
        octaves, voiced = self.voice(states).float().chunk(2, dim=-1)
        return octaves.flatten(1), voiced.flatten(1)

    def voice_of(self, states: Float[Tensor, "batch codes hidden"]) -> Voice:
        """Pitch and voicing of every frame."""
        octaves, voiced = self.voice_scores(states)
        return Voice(MIDDLE_HZ * 2 ** octaves.clamp(-2, 2), voiced > 0)

    def forward(
        self,
        states: Float[Tensor, "batch codes hidden"],
        voice: Voice,
        *,
        turns: Float64[Tensor, "batch frames"] | None = None,
        start_sample: int = 0,
    ) -> Float[Tensor, "batch samples"]:
        """The waveform, in float32.

        Args:
            states: of `states`.
            voice: of every frame.
            turns: as of `turns_of`, where the sound began earlier; None: it begins here.
            start_sample: where in the sound the first sample lies.
        """
        config = self.config
        batch, codes, _ = states.shape
        frames = self.up(states).reshape(batch, codes * config.frames_per_code, config.fine_width)
        filters = self.filters(self.norm(self.fine(frames))).float()
        loud, phase, noisy = filters.chunk(3, dim=-1)
        pulses = self._spectra(self._pulses(voice, turns))
        noise = self._spectra(self._noise(start_sample, codes, batch))
        spectrum = pulses * torch.polar(_magnitude(loud), phase) + noise * _magnitude(noisy)
        return overlap_add(spectrum, self.window, config.hop_samples)

    def turns_of(self, voice: Voice) -> Float64[Tensor, "batch frames"]:
        """Periods of the pulses from the first sample on, in the middle of every frame."""
        hz = voice.hz.double()
        steps = (hz[:, 1:] + hz[:, :-1]) / 2
        turns = torch.cat([hz[:, :1] / 2, steps], dim=1).cumsum(1)
        return turns * self.config.hop_samples / self.config.sample_rate_hz

    def _pulses(
        self, voice: Voice, turns: Float64[Tensor, "batch frames"] | None
    ) -> Float[Tensor, "batch samples"]:
        """All harmonics of the pitch below half the rate, alike in phase; 0 where unvoiced."""
        hop, rate_hz = self.config.hop_samples, self.config.sample_rate_hz
        turns = self.turns_of(voice) if turns is None else turns
        # The pitch is linear between the middles of frames, and level before the first one.
        hz = torch.cat([voice.hz[:, :1], voice.hz, voice.hz[:, -1:]], dim=1).double()
        middles = torch.cat([turns[:, :1] - hz[:, :1] * hop / rate_hz, turns], dim=1)
        since = (torch.arange(hop, device=hz.device, dtype=torch.float64) + 0.5) / rate_hz
        rise = (hz[:, 1:] - hz[:, :-1]) * rate_hz / hop
        between = middles[..., None] + hz[:, :-1, None] * since + rise[..., None] * since**2 / 2
        half = hop - hop // 2
        turned = between.flatten(1)[:, half : half + voice.hz.shape[1] * hop]
        angle = ((turned % 1.0) * math.pi).float()  # half of a period's angle
        count = (rate_hz / 2 / voice.hz).floor().repeat_interleave(hop, dim=-1)
        below = angle.sin()
        # The sum of `count` cosines; at the pulse itself each of them is 1.
        many = ((2 * count + 1) * angle).sin() / (2 * below.where(below.abs() > 1e-4, 1.0)) - 0.5
        pulses = many.where(below.abs() > 1e-4, count) / count.sqrt()
        return pulses * voice.is_voiced.repeat_interleave(hop, dim=-1)

    def _noise(self, start_sample: int, codes: int, batch: int) -> Float[Tensor, "batch samples"]:
        """Always the same at the same place of a sound; elsewhere while learning."""
        count = codes * self.config.samples_per_code
        if self.training:
            return torch.randn(batch, count)
        place = (start_sample + torch.arange(count)) % len(self.noise)
        return self.noise[place].expand(batch, -1)

    def _spectra(
        self, source: Float[Tensor, "batch samples"]
    ) -> Complex[Tensor, "batch frames bins"]:
        """One a hop, each window around its hop."""
        edge = (len(self.window) - self.config.hop_samples) // 2
        pieces = functional.pad(source, (edge, edge)).unfold(
            -1, len(self.window), self.config.hop_samples
        )
        spectra: Tensor = torch.fft.rfft(pieces * self.window)
        return spectra


class ConvBlock(nn.Module):
    """A wide convolution per channel, then two linear maps, scaled and added to their input."""

    def __init__(self, width: int, ffn_factor: int, scale: float) -> None:
        super().__init__()
        self.near = nn.Conv1d(width, width, _CONV_KERNEL, padding=_CONV_REACH, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, ffn_factor * width)
        self.down = nn.Linear(ffn_factor * width, width)
        self.gamma = nn.Parameter(torch.full((width,), scale))

    def forward(
        self, hidden: Float[Tensor, "batch frames width"]
    ) -> Float[Tensor, "batch frames width"]:
        """Apply the block."""
        inner = self.norm(self.near(hidden.transpose(1, 2)).transpose(1, 2))
        output: Tensor = hidden + self.gamma * self.down(functional.gelu(self.up(inner)))
        return output


class NearbyAttention(nn.Module):
    """Attention of every code to those near it, by rotary distance, added to its input."""

    def __init__(self, width: int, num_heads: int, reach: int) -> None:
        super().__init__()
        self.num_heads, self.reach = num_heads, reach
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, hidden: Float[Tensor, "batch codes width"]
    ) -> Float[Tensor, "batch codes width"]:
        """Apply the block."""
        batch, codes, width = hidden.shape
        split = self.qkv(self.norm(hidden)).view(batch, codes, 3, self.num_heads, -1)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)  # [batch, heads, codes, channels]
        place = torch.arange(codes, device=hidden.device)
        near = (place[:, None] - place).abs() <= self.reach
        mixed = functional.scaled_dot_product_attention(
            _turned(queries, place), _turned(keys, place), values, attn_mask=near
        )
        output: Tensor = hidden + self.out(mixed.transpose(1, 2).reshape(batch, codes, width))
        return output


def _turned(
    channels: Float[Tensor, "batch heads codes channels"], place: Int[Tensor, " codes"]
) -> Float[Tensor, "batch heads codes channels"]:
    """Rotary embedding: halves of the channels are pairs."""
    half = channels.shape[-1] // 2
    steps = torch.arange(half, device=channels.device)
    angles = place[:, None] * _ROPE_BASE ** (-steps / half)
    cos, sin = angles.cos().to(channels.dtype), angles.sin().to(channels.dtype)
    first, second = channels.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def _magnitude(logarithm: Float[Tensor, "batch frames bins"]) -> Float[Tensor, "batch frames bins"]:
    """Small at first, and never beyond what a sound may need."""
    return (logarithm - 4.0).clamp(max=_MAX_LOG_MAGNITUDE).exp()


def _blocks(width: int, count: int, config: MelCodecConfig) -> nn.Sequential:
    return nn.Sequential(*(ConvBlock(width, config.ffn_factor, 1 / count) for _ in range(count)))
