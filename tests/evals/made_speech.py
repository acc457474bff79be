"""A tiny set of sentences read aloud, and listeners that make nothing of what they hear."""

from pathlib import Path

import numpy as np

from unimoe.data.manifest import write_manifest
from unimoe.data.sample import OmniSample, Turn
from unimoe.evals.speech_judges import SpeechJudges
from unimoe.media.encode import encode_audio

RATE_HZ = 24_000
SENTENCES = (
    "well, this is the first one we have.",
    "have you seen the second one of them?",
    "this is the third one, and it is long.",
    "the last one is here at the end.",
)
LOUDNESS = {"ann": 0.2, "bob": 0.6}
VOICES = {name: name for name in LOUDNESS}


def made_speech(folder: Path) -> Path:
    """A data folder with `read_aloud`: every sentence by two voices, in both splits."""
    root = folder / "read_aloud"
    (root / "audios").mkdir(parents=True)
    samples = [
        _sample(root, voice, number, text)
        for voice in LOUDNESS
        for number, text in enumerate(SENTENCES)
    ]
    for split in ("train", "test"):
        write_manifest(root / f"{split}.jsonl", samples)
    return folder


def tone(seconds: float = 0.6, *, pitch_hz: float = 440.0, loudness: float = 0.5) -> np.ndarray:
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (loudness * np.sin(2 * np.pi * pitch_hz * times)).astype(np.float32)


def _sample(root: Path, voice: str, number: int, text: str) -> OmniSample:
    path = f"audios/{voice}-{number}.flac"
    sound = tone(pitch_hz=300.0 + 100 * number, loudness=LOUDNESS[voice])
    (root / path).write_bytes(encode_audio((sound, RATE_HZ), sample_rate_hz=RATE_HZ))
    return OmniSample(
        id=f"{voice} {number}",
        conversations=(Turn("user", text), Turn("assistant", "<audio>")),
        audios=(path,),
        task="read_aloud",
        answers=(text,),
        traits={"voice": voice},
    )


class ConstantEar:
    """Hears the same in everything, and counts the sounds."""

    def __init__(self, text="this is the one"):
        self.text, self.num_heard = text, 0

    def transcribe(self, sounds):
        self.num_heard += len(sounds)
        return [self.text for _ in sounds]


class ConstantMarks:
    def marks(self, sounds):
        return [3.0 for _ in sounds]


class OnePrint:
    """All voices are the same to it."""

    def of(self, sounds):
        return np.tile(np.array([1.0, 0.0], np.float32), (len(sounds), 1))


def listeners(ear: ConstantEar) -> SpeechJudges:
    """Nothing is loaded."""
    judges = SpeechJudges()
    vars(judges).update(first_ear=ear, second_ear=ear, prints=OnePrint(), quality=ConstantMarks())
    return judges
