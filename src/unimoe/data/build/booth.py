"""A booth: where the questions of one split are spoken.

In:  a question and a voice.  Out: a clip in the set being written, at its own pace and level, and
in training half of the time as rooms and lines change it.
Common questions are asked in every split: by pace and level no two splits hold the same clip.
"""

from __future__ import annotations

import random

import numpy as np

from unimoe.config import AUDIO_RATE_HZ
from unimoe.data.build.augment import augmented
from unimoe.data.build.questions import capital
from unimoe.data.build.sentences import Sentence, is_speakable, split_of_sentence
from unimoe.data.build.voices import Speakers, voice
from unimoe.data.splits import Split
from unimoe.data.writer import DatasetWriter

# How often of ten each voice speaks.
_TRAINING_VOICES = (*("hibari",) * 6, "slt", "awb", "kal", "espeak-us-f2")
_TEST_VOICES = (*("hibari",) * 7, "rms", "rms", "espeak-us-f5")
_MIN_PACE, _MAX_PACE = 0.88, 1.12
_MIN_LEVEL = 0.6


class Booth:
    """Where questions are spoken.

    Args:
        writer: of the set that keeps the clips.
        speakers: the voices.
        split: that the clips are for; voices that are held out speak in the test only.
        seed: of voices, paces, levels and changes.
    """

    def __init__(self, writer: DatasetWriter, speakers: Speakers, split: Split, seed: int) -> None:
        self._writer = writer
        self._speakers = speakers
        self._seed = seed
        self.split = split

    def may_say(self, question: str) -> bool:
        """Plain words, and in training none that the test of the set speech could hold."""
        if not is_speakable(Sentence(capital(question), "question")):
            return False
        return self.split != "train" or split_of_sentence(question) == "train"

    def chooser(self, key: str) -> random.Random:
        """Chooses for one sample."""
        return random.Random(f"{self._seed} {self.split} {key}")

    def voice_of(self, rng: random.Random) -> str:
        """Who asks; one voice a conversation."""
        return rng.choice(_TEST_VOICES if self.split == "test" else _TRAINING_VOICES)

    def speak(self, text: str, name: str, rng: random.Random) -> str:
        """Path of a clip at its own pace and level."""
        pace = round(rng.uniform(_MIN_PACE, _MAX_PACE), 3)
        samples = self._speakers.speak(voice(name), capital(text), speed=pace)
        samples = samples * np.float32(rng.uniform(_MIN_LEVEL, 1))
        if self.split == "train":
            samples = augmented(samples, np.random.default_rng(rng.getrandbits(32)))
        return self._writer.audio(f"{name} {text}", samples, AUDIO_RATE_HZ)
