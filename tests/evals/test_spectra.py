"""Distances and pictures of sounds."""

import numpy as np
import pytest
from PIL import Image

from tests.evals.made_speech import RATE_HZ, tone
from unimoe.errors import RequestError
from unimoe.evals.spectra import draw_spectra, log_mel, log_mel_distance
from unimoe.media.audio import Waveform


def sound(**more) -> Waveform:
    rise = np.linspace(0, 1, round(0.6 * RATE_HZ), dtype=np.float32)
    return Waveform(tone(**more) * rise, RATE_HZ)


def test_a_tone_of_full_scale_is_about_0_decibels_at_its_pitch():
    decibels = log_mel(Waveform(tone(loudness=1.0), RATE_HZ))[20]
    assert -6 < decibels.max() < 1
    assert decibels[-1] < -60
    assert decibels.argmax() < 40


def test_louder_and_later_is_the_same_sound():
    first = sound()
    later = np.pad(0.5 * first.samples, (round(0.05 * RATE_HZ), 0))
    assert log_mel_distance(first, first) == 0.0
    assert log_mel_distance(first, Waveform(later, RATE_HZ)) < 1.0


def test_another_pitch_is_far():
    assert log_mel_distance(sound(), sound(pitch_hz=1200.0)) > 3


def test_sounds_of_different_rates_are_refused():
    with pytest.raises(RequestError, match="8000"):
        log_mel_distance(sound(), Waveform(tone(), 8_000))


def test_a_picture_has_a_panel_a_sound(tmp_path):
    draw_spectra({"one": sound()}, tmp_path / "one.png")
    draw_spectra({"one": sound(), "two": sound()}, tmp_path / "a/two.png")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "a/two.png") as two:
        assert two.height == 2 * one.height
