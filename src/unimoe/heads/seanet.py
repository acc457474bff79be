"""SEANet encoder of the codec: sound to one vector per hop.

In:  waveform [batch, 1, samples] at the codec's sample rate.  Out: [batch, code_width, frames].
Strided convolutions that double their channels, a residual unit before each, two LSTM layers.
Source: EnCodec, as WavTokenizer uses it (docs/sources.md#codec).
Axes: frames = samples / hop, rounded up; time = samples or frames, whichever a layer sees.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unimoe.config import CodecConfig

_EDGE_KERNEL = 7
_RESIDUAL_KERNEL = 3


class PaddedConv(nn.Module):
    """Convolution with a vector for every started stride; its input is mirrored at both ends."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels_out, kernel, stride)
        self.kernel, self.stride = kernel, stride

    def forward(
        self, signal: Float[Tensor, "batch channels_in time"]
    ) -> Float[Tensor, "batch channels_out frames"]:
        """Pad on both sides and convolve."""
        padding = self.kernel - self.stride
        missing = -signal.shape[-1] % self.stride  # up to a whole number of strides
        before = padding - padding // 2
        output: Tensor = self.conv(_reflected(signal, before, padding // 2 + missing))
        return output


class ResidualUnit(nn.Module):
    """Two convolutions through half the channels, beside one across."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.narrow = PaddedConv(channels, inner, _RESIDUAL_KERNEL)
        self.widen = PaddedConv(inner, channels, 1)
        self.across = PaddedConv(channels, channels, 1)

    def forward(
        self, signal: Float[Tensor, "batch channels time"]
    ) -> Float[Tensor, "batch channels time"]:
        """The sum of both ways."""
        inner = self.narrow(functional.elu(signal))
        output: Tensor = self.across(signal) + self.widen(functional.elu(inner))
        return output


class SEANetEncoder(nn.Module):
    """The whole encoder."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        widths = [config.num_filters * 2**depth for depth in range(len(config.strides) + 1)]
        self.first = PaddedConv(1, widths[0], _EDGE_KERNEL)
        self.units = nn.ModuleList(ResidualUnit(width) for width in widths[:-1])
        self.downs = nn.ModuleList(
            PaddedConv(width, 2 * width, 2 * stride, stride)
            for width, stride in zip(widths[:-1], config.strides, strict=True)
        )
        self.lstm = nn.LSTM(widths[-1], widths[-1], config.lstm_layers, batch_first=True)
        self.last = PaddedConv(widths[-1], config.code_width, _EDGE_KERNEL)

    def forward(
        self, waveform: Float[Tensor, "batch 1 samples"]
    ) -> Float[Tensor, "batch code_width frames"]:
        """One vector for every started hop."""
        signal = self.first(waveform)
        for unit, down in zip(self.units, self.downs, strict=True):
            signal = down(functional.elu(unit(signal)))
        steps = signal.transpose(1, 2)  # [batch, frames, width]
        steps = self.lstm(steps)[0] + steps
        output: Tensor = self.last(functional.elu(steps.transpose(1, 2)))
        return output


def _reflected(signal: Tensor, before: int, after: int) -> Tensor:
    """Mirror both ends; a signal too short for that is lengthened with silence first."""
    length = signal.shape[-1]
    silence = max(0, max(before, after) - length + 1)
    padded = functional.pad(functional.pad(signal, (0, silence)), (before, after), "reflect")
    return padded[..., : padded.shape[-1] - silence]
