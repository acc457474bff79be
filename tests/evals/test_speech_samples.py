"""Sounds to listen to, of a small random speaker."""

import pytest

from tests.evals.made_speech import VOICES, made_speech
from tests.heads.made_speakers import small_speaker
from unimoe.errors import DataError
from unimoe.evals import speech_samples
from unimoe.evals.speech_samples import write_speech_samples
from unimoe.media.audio import load_audio


def test_every_voice_has_three_sounds_and_all_a_picture(tmp_path):
    paths = write_speech_samples(
        small_speaker(), VOICES, made_speech(tmp_path / "data"), tmp_path / "out"
    )
    names = {path.name for path in paths}
    kinds = ("original", "codec", "spoken")
    assert names == {f"{k}-{v}.flac" for k in kinds for v in ("ann", "bob")} | {"speech.png"}
    assert all(path.stat().st_size > 100 for path in paths)
    assert load_audio(tmp_path / "out/original-ann.flac").seconds == pytest.approx(0.6)


def test_a_set_without_a_fitting_sentence_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(speech_samples, "_WORDS", range(90, 91))
    with pytest.raises(DataError, match="90 to 90 words by 'ann'"):
        write_speech_samples(
            small_speaker(), VOICES, made_speech(tmp_path / "data"), tmp_path / "out"
        )
