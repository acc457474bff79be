"""One sample: a conversation with the media it speaks of, as the released data files hold it.

In:  a row {"id", "conversations": [{"from": "human", "value"}, ...], "images": [...], ...}.
Out: `OmniSample`, and back to the same row.
`<image>`, `<audio>` and `<video>` in the words say where the media of each list stand, in order.
Source: released data format (docs/sources.md#data); "task", "answers", "is_spelt", "traits",
"places" and "moments" are ours.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, cast, get_args

from unimoe.errors import DataError

Role = Literal["system", "user", "assistant"]
MediaKind = Literal["image", "audio", "video"]
Row: TypeAlias = dict[str, Any]

PLACEHOLDER = re.compile("<(image|audio|video)>")

_ROLES: dict[str, Role] = {"system": "system", "human": "user", "gpt": "assistant"}
_SPEAKERS = {role: speaker for speaker, role in _ROLES.items()}
_MEDIA_FIELDS = ("images", "audios", "videos", "codes")
_SINGULARS = {"image": "images", "audio": "audios", "video": "videos"}
# Hints of the released files for their own sampler and resizing; lengths and sizes are measured.
_UNUSED_KEYS = ("textual_length", "resized_height", "resized_width")
_OWN_KEYS = (
    "id",
    "conversations",
    *_MEDIA_FIELDS,
    "task",
    "answers",
    "is_spelt",
    "traits",
    "places",
    "moments",
)
_KNOWN_KEYS = (*_OWN_KEYS, *_SINGULARS, *_UNUSED_KEYS)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says."""

    role: Role
    text: str

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise DataError(f"a turn of role {self.role!r}; need {', '.join(get_args(Role))}")


class Box(NamedTuple):
    """A part of a picture, from its upper left corner, in shares of its width and height.

    Or a point, without extent: what stands there, like a letter of a line, is said once, in the
    order in which the points of a picture are given.
    """

    left: float
    top: float
    right: float
    bottom: float

    @property
    def is_point(self) -> bool:
        """Whether it has no extent."""
        return self.left == self.right and self.top == self.bottom


WHOLE_PICTURE = Box(0.0, 0.0, 1.0, 1.0)


class Place(NamedTuple):
    """What is somewhere in a picture."""

    words: str
    """All that can be said of it, such as "red circle left top", in any order; or in parts, a token
    of a window each, such as "red | circle | left top"."""
    box: Box = WHOLE_PICTURE
    image: int = 0
    """Which of the sample's images."""


class Moment(NamedTuple):
    """What is heard in a sound for some time."""

    words: str
    """All that can be said of it, in any order, such as "bell ringing twice"."""
    start_s: float
    end_s: float
    audio: int = 0
    """Which of the sample's audios."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OmniSample:
    """A conversation, its media, and what is known about both."""

    id: str
    conversations: tuple[Turn, ...]
    images: tuple[str, ...] = ()
    """Paths relative to the manifest's folder; one for each `<image>` in the words."""
    audios: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    task: str = ""
    """What is asked, such as "asr" or "scene_colour"; mixtures and scores go by it."""
    answers: tuple[str, ...] = ()
    """What counts as right for the last turn."""
    is_spelt: bool = False
    """Whether what the assistant says is learned letter by letter, a token each.

    Tokens of a picture say letters: whoever copies them need not know which word they spell.
    """
    traits: Mapping[str, str] = field(default_factory=dict)
    """What the sample was made of, such as {"voice": "hibari", "style": "noto"}: scores by trait,
    and the proof that what is held out stays out."""
    places: tuple[Place, ...] = ()
    """What is where in the images: connectors are aligned by it, no conversation needs it."""
    moments: tuple[Moment, ...] = ()
    """Likewise what is heard when in the audios."""

    def __post_init__(self) -> None:
        if not self.conversations:
            raise DataError(f"sample {self.id!r}: no conversations. Give at least one turn")
        for kind in get_args(MediaKind):
            placed, given = self.num_placeholders(kind), len(self.media(kind))
            if placed != given:
                raise DataError(
                    f"sample {self.id!r}: {placed} <{kind}> in its words, {given} in {kind}s. "
                    f"Write one <{kind}> where each of them stands"
                )
        for place in self.places:
            self._require_place(place)
        for moment in self.moments:
            self._require_moment(moment)

    def _require_moment(self, moment: Moment) -> None:
        is_span = 0 <= moment.start_s < moment.end_s < float("inf")
        if not (moment.words.strip() and is_span and 0 <= moment.audio < len(self.audios)):
            raise DataError(
                f"sample {self.id!r}: {moment} of {len(self.audios)} audios; need words, a start "
                "before an end, in seconds, and the number of an audio from 0"
            )

    def _require_place(self, place: Place) -> None:
        left, top, right, bottom = place.box
        is_inside = 0 <= left <= right <= 1 and 0 <= top <= bottom <= 1
        has_extent = left < right and top < bottom
        is_somewhere = is_inside and (has_extent or place.box.is_point)
        if not (place.words.strip(" |") and is_somewhere and 0 <= place.image < len(self.images)):
            raise DataError(
                f"sample {self.id!r}: {place} of {len(self.images)} images; need words, a box or "
                "point [left, top, right, bottom] within 0 to 1, and the number of an image from 0"
            )

    def media(self, kind: MediaKind) -> tuple[str, ...]:
        """Paths of one kind."""
        return {"image": self.images, "audio": self.audios, "video": self.videos}[kind]

    @property
    def media_paths(self) -> tuple[str, ...]:
        """All files the sample needs."""
        return (*self.images, *self.audios, *self.videos, *self.codes)

    @property
    def modalities(self) -> str:
        """Kinds it mixes, such as "text", "image" or "image+audio"."""
        kinds = [kind for kind in get_args(MediaKind) if self.media(kind)]
        return "+".join(kinds) or "text"

    def num_placeholders(self, kind: MediaKind) -> int:
        """How often `<kind>` stands in the words."""
        return sum(turn.text.count(f"<{kind}>") for turn in self.conversations)


def sample_of_row(row: object) -> OmniSample:
    """A sample of one row of a data file.

    Raises:
        DataError: a key is unknown or missing, a value of the wrong type, or media and
            placeholders do not agree.
    """
    if not isinstance(row, dict):
        raise DataError(f"a row is a {type(row).__name__}; need an object with conversations")
    name = f"sample {row.get('id')!r}"
    _require_known_keys(row, name)
    turns = row.get("conversations")
    if not isinstance(turns, list):
        raise DataError(f"{name}: conversations is {_kind(turns)}; need a list of turns")
    traits = row.get("traits") or {}
    if not isinstance(traits, dict):
        raise DataError(f"{name}: traits is {_kind(traits)}; need an object of words")
    _words(list(traits.values()), name, "traits")
    return OmniSample(
        id=_id(row.get("id")),
        conversations=tuple(_turn(turn, name) for turn in turns),
        **{key: _words(_paths(row, key, name), name, key) for key in _MEDIA_FIELDS},
        task=_word(row.get("task", ""), name, "task"),
        answers=_words(row.get("answers"), name, "answers"),
        is_spelt=_switch(row.get("is_spelt", False), name, "is_spelt"),
        traits=cast("dict[str, str]", traits),
        places=tuple(_place(each, name) for each in _objects(row, "places", name)),
        moments=tuple(_moment(each, name) for each in _objects(row, "moments", name)),
    )


def row_of_sample(sample: OmniSample) -> Row:
    """The row to be written; what is empty is left out."""
    row: Row = {
        "id": sample.id,
        "conversations": [
            {"from": _SPEAKERS[turn.role], "value": turn.text} for turn in sample.conversations
        ],
    }
    for key in (*_MEDIA_FIELDS, "answers"):
        if getattr(sample, key):
            row[key] = list(getattr(sample, key))
    if sample.task:
        row["task"] = sample.task
    if sample.is_spelt:
        row["is_spelt"] = True
    if sample.traits:
        row["traits"] = dict(sorted(sample.traits.items()))
    if sample.places:
        row["places"] = [place._asdict() | {"box": list(place.box)} for place in sample.places]
    if sample.moments:
        row["moments"] = [moment._asdict() for moment in sample.moments]
    return row


def _require_known_keys(row: Row, name: str) -> None:
    for key in row:
        if key not in _KNOWN_KEYS:
            nearest = difflib.get_close_matches(str(key), _KNOWN_KEYS, n=1, cutoff=0.0)[0]
            raise DataError(
                f"{name}: unknown key {key!r}; the nearest known is {nearest!r}. Rename "
                "or remove it"
            )


def _paths(row: Row, key: str, name: str) -> object:
    """The list of media, under its own name or the singular; one path counts as a list of one."""
    names = [key, *(one for one, many in _SINGULARS.items() if many == key)]
    given = [row[k] for k in names if row.get(k) is not None]
    if len(given) > 1:
        raise DataError(f"{name}: both {' and '.join(names)} are given; keep one")
    paths = given[0] if given else []
    return [paths] if isinstance(paths, str) else paths


def _turn(turn: object, name: str) -> Turn:
    if not isinstance(turn, dict) or set(turn) != {"from", "value"}:
        raise DataError(f'{name}: a turn is {_kind(turn)}; need {{"from": ..., "value": ...}}')
    speaker = turn["from"]
    if not isinstance(speaker, str) or speaker not in _ROLES:
        raise DataError(f"{name}: a turn from {speaker!r}; need {', '.join(_ROLES)}")
    return Turn(_ROLES[speaker], _word(turn["value"], name, "value"))


def _objects(row: Row, key: str, name: str) -> list[object]:
    value = row.get(key) or []
    if not isinstance(value, list):
        raise DataError(f"{name}: {key} is {_kind(value)}; need a list of objects")
    return value


def _place(value: object, name: str) -> Place:
    if isinstance(value, dict) and value.keys() == {*Place._fields}:
        box, image = value["box"], value["image"]
        is_box = isinstance(box, list) and len(box) == len(Box._fields)
        if is_box and all(type(edge) in (int, float) for edge in box) and type(image) is int:
            return Place(_word(value["words"], name, "places"), Box(*map(float, box)), image)
    raise DataError(
        f'{name}: a place is {_kind(value)}; need {{"words": ..., "box": [left, top, right, '
        'bottom], "image": number}'
    )


def _moment(value: object, name: str) -> Moment:
    if isinstance(value, dict) and value.keys() == {*Moment._fields}:
        times = (value["start_s"], value["end_s"])
        if all(type(time) in (int, float) for time in times) and type(value["audio"]) is int:
            words = _word(value["words"], name, "moments")
            return Moment(words, float(times[0]), float(times[1]), value["audio"])
    raise DataError(
        f'{name}: a moment is {_kind(value)}; need {{"words": ..., "start_s": seconds, "end_s": '
        'seconds, "audio": number}'
    )


def _id(value: object) -> str:
    if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
        return str(value)
    raise DataError(f"a sample has the id {value!r}; need a word or a whole number")


def _words(value: object, name: str, key: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise DataError(f"{name}: {key} is {_kind(value)}; need a list of words")
    return tuple(_word(word, name, key) for word in value)


def _switch(value: object, name: str, key: str) -> bool:
    if not isinstance(value, bool):
        raise DataError(f"{name}: {key} is {_kind(value)}; need true or false")
    return value


def _word(value: object, name: str, key: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{name}: {key} holds {_kind(value)}; need words")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise DataError(f"{name}: {key} holds half a character (a lone surrogate). Write it again")
    return value


def _kind(value: object) -> str:
    if isinstance(value, dict):
        return f"an object of {', '.join(map(str, value)) or 'nothing'}"
    return "missing" if value is None else f"a {type(value).__name__}"
