"""Vocos decoder of the codec: one vector per hop to sound.

In:  features [batch, code_width, frames].  Out: waveform [batch, samples], frames * hop of them.
Residual blocks and one attention over all frames, ConvNeXt blocks with adaptive norms, and a
spectrum of magnitude and phase that an inverse Fourier transform turns into sound.
Source: Vocos, as WavTokenizer changed it (docs/sources.md#codec).
Axes: frames = hops, hidden = channels, window = samples of a transform, bins = window / 2 + 1.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional

from unimoe.config import CodecConfig

_NORM_GROUPS = 32
_NORM_EPS = 1e-6
_MAX_MAGNITUDE = 100.0


class VocosBackbone(nn.Module):
    """Features to the states of which the head makes a spectrum."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.embed = nn.Conv1d(config.code_width, width, 7, padding=3)
        self.pos_net = nn.Sequential(
            ResnetBlock(width),
            ResnetBlock(width),
            FrameAttention(width),
            ResnetBlock(width),
            ResnetBlock(width),
            _group_norm(width),
        )
        self.norm = AdaptiveNorm(config)
        self.convnext = nn.ModuleList(ConvNeXtBlock(config) for _ in range(config.num_layers))
        self.final_layer_norm = nn.LayerNorm(width, _NORM_EPS)

    def forward(
        self, features: Float[Tensor, "batch code_width frames"], bandwidth_id: int
    ) -> Float[Tensor, "batch frames hidden"]:
        """The states of every frame; `bandwidth_id` picks the row of the adaptive norms."""
        hidden = self.pos_net(self.embed(features)).transpose(1, 2)
        hidden = self.norm(hidden, bandwidth_id)
        for block in self.convnext:
            hidden = block(hidden, bandwidth_id)
        states: Tensor = self.final_layer_norm(hidden)
        return states


class ResnetBlock(nn.Module):
    """Two convolutions, each behind a norm and SiLU, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _group_norm(width), _group_norm(width)
        self.conv1 = nn.Conv1d(width, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, padding=1)

    def forward(
        self, hidden: Float[Tensor, "batch hidden frames"]
    ) -> Float[Tensor, "batch hidden frames"]:
        """Apply the block."""
        inner = self.conv1(functional.silu(self.norm1(hidden)))
        output: Tensor = hidden + self.conv2(functional.silu(self.norm2(inner)))
        return output


class FrameAttention(nn.Module):
    """Attention with one head from every frame to all, added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _group_norm(width)
        self.q, self.k, self.v, self.proj_out = (nn.Conv1d(width, width, 1) for _ in range(4))

    def forward(
        self, hidden: Float[Tensor, "batch hidden frames"]
    ) -> Float[Tensor, "batch hidden frames"]:
        """Apply the block."""
        normed = self.norm(hidden)
        queries, keys, values = (part(normed).transpose(1, 2) for part in (self.q, self.k, self.v))
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        output: Tensor = hidden + self.proj_out(mixed.transpose(1, 2))
        return output


class AdaptiveNorm(nn.Module):
    """Layer norm whose scale and shift are rows of two tables."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.scale = nn.Embedding(config.num_bandwidths, config.hidden_size)
        self.shift = nn.Embedding(config.num_bandwidths, config.hidden_size)

    def forward(
        self, hidden: Float[Tensor, "batch frames hidden"], bandwidth_id: int
    ) -> Float[Tensor, "batch frames hidden"]:
        """Normalise every frame."""
        scale, shift = self.scale.weight[bandwidth_id], self.shift.weight[bandwidth_id]
        return functional.layer_norm(hidden, hidden.shape[-1:], scale, shift, _NORM_EPS)


class ConvNeXtBlock(nn.Module):
    """A wide convolution per channel, then two linear maps, scaled and added to their input."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.dwconv = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = AdaptiveNorm(config)
        self.pwconv1 = nn.Linear(width, config.ffn_width)
        self.pwconv2 = nn.Linear(config.ffn_width, width)
        self.gamma = nn.Parameter(torch.full((width,), 1 / config.num_layers))

    def forward(
        self, hidden: Float[Tensor, "batch frames hidden"], bandwidth_id: int
    ) -> Float[Tensor, "batch frames hidden"]:
        """Apply the block."""
        inner = self.norm(self.dwconv(hidden.transpose(1, 2)).transpose(1, 2), bandwidth_id)
        output: Tensor = hidden + self.gamma * self.pwconv2(functional.gelu(self.pwconv1(inner)))
        return output


class SpectrumHead(nn.Module):
    """Magnitude and phase of every frame, and the sound they make together."""

    window: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.hop_samples = config.hop_samples
        self.out = nn.Linear(config.hidden_size, config.window_samples + 2)
        self.register_buffer("window", torch.hann_window(config.window_samples))

    def forward(
        self, states: Float[Tensor, "batch frames hidden"]
    ) -> Float[Tensor, "batch samples"]:
        """The waveform, in float32."""
        log_magnitude, phase = self.out(states).float().chunk(2, dim=-1)  # [batch, frames, bins]
        magnitude = log_magnitude.exp().clamp(max=_MAX_MAGNITUDE)
        return overlap_add(torch.polar(magnitude, phase), self.window, self.hop_samples)


def overlap_add(
    spectrum: Complex[Tensor, "batch frames bins"],
    window: Float[Tensor, " window"],
    hop_samples: int,
) -> Float[Tensor, "batch samples"]:
    """Inverse short-time Fourier transform with "same" padding: a hop of sound for every frame.

    The windows overlap by all but a hop; half of that is cut off at either end.
    """
    frames = torch.fft.irfft(spectrum, len(window), dim=-1) * window  # [batch, frames, window]
    squares = window.square().expand(1, frames.shape[1], -1)
    trim = (len(window) - hop_samples) // 2
    sound, weight = (
        _added_up(each, hop_samples)[:, trim : -trim or None] for each in (frames, squares)
    )
    return sound / weight


def _added_up(frames: Tensor, hop_samples: int) -> Tensor:
    """Frames [batch, frames, window] laid over one another, each a hop behind the last."""
    _, num_frames, window = frames.shape
    total = (num_frames - 1) * hop_samples + window
    laid = functional.fold(frames.transpose(1, 2), (1, total), (1, window), stride=(1, hop_samples))
    return laid[:, 0, 0]


def _group_norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(_NORM_GROUPS, width, _NORM_EPS)
