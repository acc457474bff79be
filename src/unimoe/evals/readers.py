"""Who reads a sentence aloud: the model, its teacher, or what one would use instead.

    Recorded      the recording of the sample
    Resynthesis   the recording, through the codec of the model and back
    Codec2        the recording, through Codec 2 at 700 bits a second and back; 8 kHz
    Spoken        the text, by the model, in the voice of the sample
    Espeak        the text, by espeak-ng

In:  a sample of a set of sentences read aloud: text, recordings, voice.  Out: `Waveform`.
Axes: samples = at the reader's own rate.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from unimoe.data.build.voices import Speakers, voice
from unimoe.data.manifest import media_file
from unimoe.data.sample import OmniSample
from unimoe.data.splits import unit_hash
from unimoe.errors import DataError
from unimoe.heads.mel_codec import MelCodec
from unimoe.infer.speaking import speak
from unimoe.infer.speech import Speech, SpeechOptions
from unimoe.infer.speech_head import SpeechHead
from unimoe.media.audio import AudioSource, Waveform, load_audio
from unimoe.media.encode import encode_audio
from unimoe.parts import fetch, part

SAMPLE_RATE_HZ = 24_000
_CODEC2_RATE_HZ = 8_000
_CODEC2_SECONDS = 60


@runtime_checkable
class Reader(Protocol):
    """Makes the sound of a sample."""

    def read(self, sample: OmniSample, folder: Path) -> Waveform:
        """The sample's text as sound; `folder` is where its media paths start."""


def as_source(sound: Waveform) -> AudioSource:
    """The sound as judges take it."""
    return sound.samples, sound.sample_rate_hz


class Recorded:
    """Its recordings, one after the other."""

    def read(self, sample: OmniSample, folder: Path) -> Waveform:
        """Load them."""
        sounds = [
            load_audio(media_file(folder, path), sample_rate_hz=SAMPLE_RATE_HZ).samples
            for path in sample.audios
        ]
        return Waveform(np.concatenate(sounds), SAMPLE_RATE_HZ)


class Resynthesis:
    """Its recording, as codes and back.

    Args:
        codec: in evaluation mode.
    """

    def __init__(self, codec: MelCodec) -> None:
        self._codec = codec

    @torch.no_grad()
    def read(self, sample: OmniSample, folder: Path) -> Waveform:
        """Encode and decode."""
        given = Recorded().read(sample, folder).samples
        made = self._codec.decode(self._codec.encode(torch.from_numpy(given)[None]))[0]
        return Waveform(made[: len(given)].numpy(), SAMPLE_RATE_HZ)


class Codec2:
    """Its recording, at 700 bits a second and back, by the Debian programs; Linux on x86-64.

    Args:
        folder: of the part; None: fetched.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._root = folder or fetch(part("codec2"))

    def read(self, sample: OmniSample, folder: Path) -> Waveform:
        """Encode and decode.

        Raises:
            DataError: the programs do not run here.
        """
        given = Recorded().read(sample, folder)
        narrow = load_audio(as_source(given), sample_rate_hz=_CODEC2_RATE_HZ)
        pcm = (narrow.samples.clip(-1, 1) * 32767).astype("<i2").tobytes()
        made = np.frombuffer(self._run("c2dec", self._run("c2enc", pcm)), "<i2")
        return Waveform(made.astype(np.float32) / 32768, _CODEC2_RATE_HZ)

    def _run(self, program: str, data: bytes) -> bytes:
        command = [str(self._root / "usr/bin" / program), "700C", "-", "-"]
        libraries = {"LD_LIBRARY_PATH": str(self._root / "usr/lib/x86_64-linux-gnu")}
        try:
            return subprocess.run(
                command,
                input=data,
                env=libraries,
                check=True,
                capture_output=True,
                timeout=_CODEC2_SECONDS,
            ).stdout
        except (OSError, subprocess.SubprocessError) as error:
            raise DataError(
                f"{program} does not run here: {error}. It needs Linux on x86-64"
            ) from error


class Spoken:
    """Its text, by the model, as a session says it; drawn by the hash of the text.

    Args:
        speaker: the speech head.
        voices: of a sample -> the speaker's name of it.
    """

    def __init__(self, speaker: SpeechHead, voices: Mapping[str, str]) -> None:
        self._speaker = speaker
        self._voices = voices

    def read(self, sample: OmniSample, folder: Path) -> Waveform:
        """Speak."""
        text = sample.answers[0]
        options = SpeechOptions(voice=self._voices[sample.traits["voice"]])
        seed = int(unit_hash(text) * 2**31)
        said = Speech.of_chunks(list(speak(self._speaker, [text], options, seed=seed)))
        return Waveform(said.samples, said.sample_rate_hz)


class Espeak:
    """Its text, by espeak-ng, whoever the voice of the sample is.

    Args:
        kept: folder of what was spoken before.
        folder: of the part; None: fetched.
    """

    def __init__(self, kept: Path, folder: Path | None = None) -> None:
        sources = {"espeak-ng": folder or fetch(part("espeak-ng"))}
        self._speakers = Speakers(sources, kept, sample_rate_hz=SAMPLE_RATE_HZ)

    def read(self, sample: OmniSample, folder: Path) -> Waveform:
        """Speak."""
        said = self._speakers.speak(voice("espeak-us"), sample.answers[0])
        return Waveform(said, SAMPLE_RATE_HZ)


class KeptReader:
    """Another reader, whose sounds are kept as FLAC: every judge hears the very same sound.

    Args:
        reader: asked for what is not kept.
        kept: folder of this reader's sounds alone.
    """

    def __init__(self, reader: Reader, kept: Path) -> None:
        self._reader = reader
        self._kept = kept

    def read(self, sample: OmniSample, folder: Path) -> Waveform:
        """The kept sound, made first if need be."""
        path = self._kept / f"{sha256(sample.id.encode()).hexdigest()[:24]}.flac"
        if not path.is_file():
            sound = self._reader.read(sample, folder)
            rate = sound.sample_rate_hz
            data = encode_audio((sound.samples.clip(-1, 1), rate), sample_rate_hz=rate)
            path.parent.mkdir(parents=True, exist_ok=True)
            being_written = path.with_suffix(".new")
            being_written.write_bytes(data)
            being_written.rename(path)
        return load_audio(path, sample_rate_hz=SAMPLE_RATE_HZ)
