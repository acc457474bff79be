"""A voice asked for in words, as settings of a speaker.

In:  the name of a voice, or a description such as "a calm man, slow, low".  Out: `VoiceSettings`.
The rule: every word is looked up. A word that is part of a voice's name picks that voice; so does a
word for a kind of person, where a voice is named for that kind ("lady" picks "woman"). Words for
age, mood, pace and pitch multiply pace or pitch; "very" squares the next word's effect, "slightly"
takes its root. Nothing else is understood, and a word that is not is an error that lists all that
is: a description never goes unheard.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from unimoe.errors import RequestError

_KINDS = (
    frozenset({"man", "male", "masculine", "gentleman", "guy"}),
    frozenset({"woman", "female", "feminine", "lady"}),
    frozenset({"child", "kid", "boy", "girl"}),
    frozenset({"robot", "machine", "synthetic", "robotic"}),
)


class _Effect(NamedTuple):
    """Factors."""

    pace: float = 1.0
    pitch: float = 1.0


_EFFECTS = {
    "slow": _Effect(pace=0.85),
    "slowly": _Effect(pace=0.85),
    "fast": _Effect(pace=1.2),
    "quick": _Effect(pace=1.2),
    "quickly": _Effect(pace=1.2),
    "low": _Effect(pitch=0.88),
    "deep": _Effect(pitch=0.88),
    "high": _Effect(pitch=1.14),
    "bright": _Effect(pitch=1.07),
    "calm": _Effect(pace=0.93),
    "relaxed": _Effect(pace=0.93),
    "lively": _Effect(pace=1.08, pitch=1.04),
    "excited": _Effect(pace=1.12, pitch=1.07),
    "sad": _Effect(pace=0.9, pitch=0.95),
    "old": _Effect(pace=0.92, pitch=0.94),
    "elderly": _Effect(pace=0.92, pitch=0.94),
    "young": _Effect(pace=1.04, pitch=1.06),
}
_DEGREES = {"very": 2.0, "quite": 1.0, "rather": 1.0, "slightly": 0.5}
_SILENT = (
    "a an the and with of in who that is speaks speaking speak says voice speaker tone pitch"
    " pitched pace language english medium normal"
)
PACES = (0.5, 2.0)
"""Slowest and fastest that can be asked for."""
PITCHES = (0.5, 2.0)


class VoiceSettings(NamedTuple):
    """What a speaker is told."""

    voice: str
    pace: float = 1.0
    """1 is usual; 2 is twice as fast."""
    pitch: float = 1.0
    """A factor on the frequency of the voice."""


def voice_settings(wanted: str | None, voices: Sequence[str]) -> VoiceSettings:
    """The settings a name or a description asks for.

    >>> voice_settings("a calm man, very slow", ("woman", "man"))
    VoiceSettings(voice='man', pace=0.671925, pitch=1.0)

    Args:
        wanted: None or "" takes the first voice as it is.
        voices: names of those the speaker has.

    Raises:
        RequestError: a word is not understood, no voice is of the kind, or several are named.
    """
    if not wanted or wanted in voices:
        return VoiceSettings(wanted or voices[0])
    named: list[str] = []
    pace = pitch = degree = 1.0
    for word in re.findall(r"[^\W_]+(?:'[^\W_]+)?", wanted.lower()):
        if word in _DEGREES:
            degree = _DEGREES[word]
            continue
        if word in _EFFECTS:
            pace *= _EFFECTS[word].pace ** degree
            pitch *= _EFFECTS[word].pitch ** degree
        elif of_word := _voices_of(word, voices):
            named = [voice for voice in named if voice in of_word] if named else of_word
            if not named:
                raise _no_such_voice(wanted, voices, "no voice is all of this")
        elif any(word in kind for kind in _KINDS):
            raise _no_such_voice(wanted, voices, f"no voice is a {word}")
        elif word not in _SILENT.split():
            raise _no_such_voice(wanted, voices, f"{word!r} is not understood")
        degree = 1.0
    return VoiceSettings(
        named[0] if named else voices[0],
        round(min(max(pace, PACES[0]), PACES[1]), 6),
        round(min(max(pitch, PITCHES[0]), PITCHES[1]), 6),
    )


def _voices_of(word: str, voices: Sequence[str]) -> list[str]:
    """Voices that have the word, or one for the same kind of person, in their name."""
    meant = next((kind for kind in _KINDS if word in kind), frozenset({word}))
    by_name = {voice: set(re.findall(r"[^\W_]+", voice.lower())) for voice in voices}
    exact = [voice for voice, parts in by_name.items() if word in parts]
    return exact or [voice for voice, parts in by_name.items() if parts & meant]


def _no_such_voice(wanted: str, voices: Sequence[str], why: str) -> RequestError:
    return RequestError(
        f"voice is {wanted!r}: {why}. Need one of {', '.join(voices)}, or a description of words "
        f"for a voice and of {', '.join(_EFFECTS)}; before them {', '.join(_DEGREES)}"
    )
