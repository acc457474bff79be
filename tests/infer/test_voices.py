"""Words about a voice are heard, all of them or none."""

import pytest

from unimoe.errors import RequestError
from unimoe.infer.voices import VoiceSettings, voice_settings

VOICES = ("woman", "man", "Jenny", "old robot")


@pytest.mark.parametrize(
    ("wanted", "settings"),
    [
        (None, VoiceSettings("woman")),
        ("", VoiceSettings("woman")),
        ("man", VoiceSettings("man")),
        ("old robot", VoiceSettings("old robot")),
        ("a male voice", VoiceSettings("man")),
        ("Language: English; Speaker: Jenny;", VoiceSettings("Jenny")),
        ("slow", VoiceSettings("woman", pace=0.85)),
        ("A lady, speaking fast", VoiceSettings("woman", pace=1.2)),
        ("a deep man", VoiceSettings("man", pitch=0.88)),
        ("very slow", VoiceSettings("woman", pace=0.7225)),
        ("slightly high-pitched", VoiceSettings("woman", pitch=1.067708)),
        ("very fast excited quick quickly lively", VoiceSettings("woman", 2.0, 1.1128)),
        ("a calm man, slow, low", VoiceSettings("man", 0.7905, 0.88)),
    ],
)
def test_a_name_or_a_description_is_a_voice_a_pace_and_a_pitch(
    wanted: str | None, settings: VoiceSettings
) -> None:
    assert voice_settings(wanted, VOICES) == settings


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("purple", "'purple' is not understood"),
        ("a slow Scottish man", "'scottish' is not understood"),
        ("a child", "no voice is a child"),
        ("a woman and a man", "no voice is all of this"),
    ],
)
def test_what_is_not_understood_is_refused_and_all_that_is_gets_listed(
    wanted: str, why: str
) -> None:
    with pytest.raises(RequestError, match=why) as error:
        voice_settings(wanted, VOICES)
    for word in (*VOICES, "slow", "deep", "very"):
        assert word in str(error.value)
