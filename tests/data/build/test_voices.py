import numpy as np
import pytest

from tests.data.build.tiny_parts import Tones
from unimoe.data.build.voices import HELD_OUT_VOICES, VOICES, Speakers, voice
from unimoe.errors import DataError


class Silent(Tones):
    def _said(self, voice, text, speed):
        return np.zeros(16000, np.float32)


class Margins(Tones):
    def _said(self, voice, text, speed):
        said = super()._said(voice, text, speed)
        return np.pad(said, 16000)


def test_names_are_unique_and_some_voices_are_held_out():
    assert len({voice.name for voice in VOICES}) == len(VOICES)
    assert {"rms", "espeak-us-f5", "kokoro-kumo"} == HELD_OUT_VOICES


def test_what_was_said_once_is_kept_bit_for_bit(tmp_path):
    speakers = Tones(tmp_path)

    first = speakers.speak(voice("slt"), "Hello.")
    again = speakers.speak(voice("slt"), "Hello.")

    assert speakers.num_said == 1
    np.testing.assert_array_equal(first, again)


def test_voice_text_and_speed_make_other_clips(tmp_path):
    speakers = Tones(tmp_path)

    speakers.speak(voice("slt"), "Hello.")
    speakers.speak(voice("awb"), "Hello.")
    speakers.speak(voice("slt"), "Goodbye.")
    speakers.speak(voice("slt"), "Hello.", speed=1.1)

    assert speakers.num_said == 4


def test_silence_around_speech_is_cut_and_its_level_set(tmp_path):
    spoken = Margins(tmp_path).speak(voice("slt"), "Hello.")

    assert len(spoken) < 3200 + 16000 * 0.3
    assert float(np.abs(spoken).max()) == pytest.approx(0.7, abs=0.01)


def test_a_voice_that_says_nothing_is_told(tmp_path):
    with pytest.raises(DataError, match="said nothing"):
        Silent(tmp_path).speak(voice("slt"), "Hello.")


def test_a_missing_program_is_told(tmp_path):
    with pytest.raises(DataError, match="flite does not run here"):
        Speakers({"flite": tmp_path}, tmp_path).speak(voice("slt"), "Hello.")


def test_a_part_that_was_not_given_is_told(tmp_path):
    with pytest.raises(DataError, match="'espeak-ng'"):
        Speakers({}, tmp_path).speak(voice("espeak-us"), "Hello.")
