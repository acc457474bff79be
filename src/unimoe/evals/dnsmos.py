"""DNSMOS: how good speech sounds, as listeners would say who do not know the original.

In:  recordings.  Out: marks float [sounds], 1 (bad) to 5 (excellent): the overall one of P.835.
A network that was taught by the marks of people. It is given 9.01 s; a shorter sound is repeated.
Source: DNSMOS P.835, the part dnsmos; the polynomial puts its output on the scale of the people's
marks (docs/sources.md#evals). The source slides its window by a second, ours by a whole window.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from unimoe.errors import RequestError
from unimoe.media.audio import AudioSource, load_audio
from unimoe.parts import fetch, part

_RATE_HZ = 16_000
_WINDOW = int(9.01 * _RATE_HZ)
_OVERALL = (-0.06766283, 1.11546468, 0.04602535)
"""From the square down to the constant."""


class Dnsmos:
    """Marks for speech.

    Args:
        folder: of the part; None: fetched.

    Raises:
        RequestError: onnxruntime is not installed.
    """

    def __init__(self, folder: Path | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise RequestError("DNSMOS needs onnxruntime: pip install 'unimoe[eval]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        root = (folder or fetch(part("dnsmos"))) / "speechmos" / "dnsmos_models"
        self._network = onnxruntime.InferenceSession(
            str(root / "sig_bak_ovr.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def marks(self, sounds: Sequence[AudioSource]) -> list[float]:
        """The mark of every recording."""
        return [self._mark(load_audio(s, sample_rate_hz=_RATE_HZ).samples) for s in sounds]

    def _mark(self, samples: Float32[np.ndarray, " samples"]) -> float:
        outputs = [
            self._network.run(None, {"input_1": window[None]})[0][0, 2]
            for window in filled_windows(samples, _WINDOW)
        ]
        return float(np.polyval(_OVERALL, np.asarray(outputs, float)).mean())


def filled_windows(
    samples: Float32[np.ndarray, " samples"], size: int
) -> Float32[np.ndarray, "windows size"]:
    """A sound in windows of one size, repeated from its beginning where it ends too early."""
    count = -(-len(samples) // size)
    return np.resize(samples, (count, size))
