"""A conversation as pure values: messages made of text, image, audio and video parts.

Nothing is read or checked against a model here; a part holds its source as the user gave it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from unimoe.errors import RequestError
from unimoe.media.audio import AudioSource
from unimoe.media.image import ImageSource
from unimoe.media.video import VideoSource

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text; what it spells is never a control token unless it says so."""

    text: str
    has_control_tokens: bool = False
    """The text is ours and means the control tokens it spells, such as `<|speech_start|>` in an
    answer we train on. Never for text somebody typed: it could forge turns and media."""


# Sources may be arrays, whose == is no truth value: parts of media are equal to themselves only.
@dataclass(frozen=True, slots=True, eq=False)
class ImagePart:
    """An image."""

    source: ImageSource


@dataclass(frozen=True, slots=True, eq=False)
class AudioPart:
    """A sound: speech, music, noises."""

    source: AudioSource


@dataclass(frozen=True, slots=True, eq=False)
class VideoPart:
    """A video; its sound track follows it as an audio block of its own."""

    source: VideoSource
    with_sound: bool = True
    """Hear the sound track, if the file has one and the model has an audio encoder."""


Part: TypeAlias = TextPart | ImagePart | AudioPart | VideoPart


@dataclass(frozen=True, slots=True)
class Message:
    """One turn."""

    role: Role
    content: tuple[Part, ...]

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise RequestError(f"role is {self.role!r}; need {', '.join(get_args(Role))}")
        for part in self.content:
            if not isinstance(part, Part):
                raise RequestError(
                    f"a {self.role} message holds a {type(part).__name__}; "
                    "need TextPart, ImagePart, AudioPart or VideoPart"
                )


def message(role: Role, *parts: Part | str) -> Message:
    """A message; plain strings become text parts.

    >>> message("user", ImagePart("cat.jpg"), "What is it?")  # doctest: +SKIP
    """
    return Message(role, tuple(TextPart(p) if isinstance(p, str) else p for p in parts))
