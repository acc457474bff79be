"""A sample of a data set as messages: its media where its words place them.

In:  `OmniSample` and the folder its media paths start from.  Out: messages, as for a prompt.
The n-th `<image>` of a conversation stands for the n-th of its images; sounds and videos alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unimoe.data.manifest import media_file
from unimoe.data.sample import PLACEHOLDER, OmniSample
from unimoe.errors import DataError
from unimoe.tokens.message import AudioPart, ImagePart, Message, Part, TextPart, VideoPart

_PARTS: dict[str, type[ImagePart | AudioPart | VideoPart]] = {
    "image": ImagePart,
    "audio": AudioPart,
    "video": VideoPart,
}


def messages_of(sample: OmniSample, folder: Path) -> list[Message]:
    """The conversation as messages; words stay as they are, line breaks around media included.

    Codes are no part of it: they are what a speech head learns.

    Raises:
        DataError: a medium is missing, or its path leads out of the folder.
    """
    media: dict[str, Iterator[Path]] = {
        "image": _files(sample, sample.images, folder),
        "audio": _files(sample, sample.audios, folder),
        "video": _files(sample, sample.videos, folder),
    }
    return [Message(turn.role, tuple(_parts(turn.text, media))) for turn in sample.conversations]


def _files(sample: OmniSample, paths: tuple[str, ...], folder: Path) -> Iterator[Path]:
    for path in paths:
        try:
            yield media_file(folder, path)
        except DataError as error:
            raise DataError(f"sample {sample.id!r}: {error}") from error


def _parts(text: str, media: dict[str, Iterator[Path]]) -> Iterator[Part]:
    # Split with one group: even items are words, odd ones the kinds between them.
    for index, item in enumerate(PLACEHOLDER.split(text)):
        if index % 2:
            # A sample is not made unless media and placeholders agree.
            yield _PARTS[item](next(media[item]))
        elif item:
            yield TextPart(item)
