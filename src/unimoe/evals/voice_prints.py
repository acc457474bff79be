"""Whose voice is it: one direction a recording, near to those of the same speaker.

In:  recordings.  Out: unit vectors float32 [sounds, 256]; their products are cosines.
A recurrent network reads mel spectra in windows of 1.6 s; a recording is the mean of its windows.
Two recordings of one speaker are about 0.9 alike, of two speakers about 0.5.
Source: Resemblyzer 0.1.4, of which the weights alone are read (docs/sources.md#evals). It also cuts
pauses out, by a detector of its own; ours are cut short where the recordings are made.
Axes: sounds; windows of 160 frames, 10 ms each; bins of mel.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional

from unimoe.media.audio import AudioSource, load_audio
from unimoe.parts import fetch, part

_RATE_HZ = 16_000
_FFT, _HOP, _BINS = 400, 160, 40
_WINDOW_FRAMES, _STEP_FRAMES = 160, 77
_LEAST_COVERED = 0.75
"""Of a last window by sound; one with less is left out."""
_WIDTH, _LAYERS = 256, 3
_LEAST_RMS = 10 ** (-30 / 20)

Print = Float32[np.ndarray, " width"]
"""Of length one."""


class VoicePrints(nn.Module):
    """Three LSTM layers and a projection.

    Args:
        folder: of the part; None: fetched.
    """

    def __init__(self, folder: Path | None = None) -> None:
        from transformers.audio_utils import mel_filter_bank

        super().__init__()
        self.lstm = nn.LSTM(_BINS, _WIDTH, _LAYERS, batch_first=True)
        self.linear = nn.Linear(_WIDTH, _WIDTH)
        path = (folder or fetch(part("resemblyzer"))) / "resemblyzer" / "pretrained.pt"
        stored = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        # Of its training: how similarities were scaled.
        wanted = {name: value for name, value in stored.items() if "similarity" not in name}
        self.load_state_dict(wanted)
        self.eval()
        self._filters = torch.from_numpy(
            mel_filter_bank(
                _FFT // 2 + 1, _BINS, 0.0, _RATE_HZ / 2, _RATE_HZ, norm="slaney", mel_scale="slaney"
            )
        ).float()

    @torch.no_grad()
    def of(self, sounds: Sequence[AudioSource]) -> Float32[np.ndarray, "sounds width"]:
        """The print of every recording."""
        prints = [self._print(load_audio(s, sample_rate_hz=_RATE_HZ).samples) for s in sounds]
        return torch.stack(prints).numpy()

    def _print(self, samples: Float32[np.ndarray, " samples"]) -> Float[Tensor, " width"]:
        sound = torch.from_numpy(samples)
        loudness = sound.square().mean().sqrt()
        if 0 < loudness < _LEAST_RMS:
            sound = sound * (_LEAST_RMS / loudness)
        _, (last, _) = self.lstm(self._windows(sound))
        each = functional.normalize(self.linear(last[-1]).relu(), dim=-1)
        return functional.normalize(each.mean(0), dim=-1)

    def _windows(self, sound: Float[Tensor, " samples"]) -> Float[Tensor, "windows frames bins"]:
        """Mel power, in windows that overlap by half."""
        spectrum = torch.stft(
            sound,
            _FFT,
            _HOP,
            window=torch.hann_window(_FFT),
            pad_mode="constant",
            return_complex=True,
        )
        mel = spectrum.abs().square().T @ self._filters
        count = num_windows(len(sound) // _HOP + 1)
        missing = (count - 1) * _STEP_FRAMES + _WINDOW_FRAMES - len(mel)
        mel = functional.pad(mel, (0, 0, 0, max(0, missing)))
        return mel.unfold(0, _WINDOW_FRAMES, _STEP_FRAMES)[:count].transpose(1, 2)


def num_windows(num_frames: int) -> int:
    """Windows of a recording: at least one, and no last one with too little sound in it."""
    beyond = max(0, num_frames - _WINDOW_FRAMES)
    whole, rest = divmod(beyond, _STEP_FRAMES)
    in_last = _WINDOW_FRAMES - _STEP_FRAMES + rest
    return 1 + whole + (rest > 0 and in_last >= _LEAST_COVERED * _WINDOW_FRAMES)


def mean_print(prints: Float32[np.ndarray, "sounds width"]) -> Print:
    """The print of a speaker, of several recordings."""
    total = prints.sum(0)
    mean: Print = total / np.linalg.norm(total)
    return mean
