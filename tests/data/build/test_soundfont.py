import numpy as np
import pytest

from tests.data.build.tiny_parts import tiny_soundfont
from unimoe.data.build.soundfont import Note, SoundFont
from unimoe.errors import DataError


@pytest.fixture
def font(tmp_path):
    path = tmp_path / "tiny.sf2"
    path.write_bytes(tiny_soundfont((0, 40)))
    return SoundFont(path)


def hertz(samples):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return spectrum.argmax() * 16000 / len(samples)


@pytest.mark.parametrize(("key", "expected"), [(60, 500), (72, 1000), (48, 250), (67, 749)])
def test_a_key_has_its_pitch(font, key, expected):
    sound = font.play(0, [Note(key, 0, 0.5)])

    assert hertz(sound[1600:8000]) == pytest.approx(expected, abs=4)


def test_a_held_note_loops_past_the_end_of_its_recording(font):
    sound = font.play(40, [Note(60, 0, 2.0)])

    assert hertz(sound[24000:32000]) == pytest.approx(500, abs=4)


def test_notes_start_when_they_are_told(font):
    sound = font.play(0, [Note(60, 0.5, 0.3)])

    assert np.abs(sound[:7990]).max() == 0
    assert np.abs(sound[8100:12000]).max() > 0.5


def test_unknown_instruments_and_keys_are_told(font):
    with pytest.raises(DataError, match="program 7"):
        font.play(7, [Note(60, 0, 1)])
    with pytest.raises(DataError, match="key 20"):
        font.play(0, [Note(20, 0, 1)])


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.sf2").write_bytes(b"RIFF1234WAVE")

    with pytest.raises(DataError, match="no SoundFont 2"):
        SoundFont(tmp_path / "a.sf2")
