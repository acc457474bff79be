"""A tokenizer directory: text to ids and back, with control tokens only where we want them.

In:  tokenizer.json, and where present tokenizer_config.json, chat_template.jinja or .json,
     generation_config.json.  Out: ids as plain ints; text, whole or streamed.
Control tokens are the special tokens of the tokenizer and every token the checkpoint's config
names. `encode` never makes one, however the text reads; only `control_id` does.
Source: release (docs/sources.md#vocabulary).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tokenizers import Tokenizer

from unimoe.config import SpecialTokens
from unimoe.errors import CheckpointError

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_MAX_TEXT_BYTES = 16 * 2**20  # of the files beside tokenizer.json; those released have kilobytes


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ChatTemplate:
    """The jinja template a directory brings, with the two strings such templates refer to."""

    source: str
    bos_token: str = ""
    eos_token: str = ""


class Vocabulary:
    """Text to ids and back."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        special_tokens: SpecialTokens,
        *,
        chat_template: ChatTemplate | None = None,
        end_ids: Iterable[int] = (),
    ) -> None:
        """Take a tokenizer as it is in memory; `from_directory` is the usual way.

        Args:
            tokenizer: taken over; it is the vocabulary's from here on.
            special_tokens: the ids the checkpoint's config names.
            chat_template: None: the ChatML form of Qwen.
            end_ids: tokens that end an answer besides `special_tokens.end_of_turn`.

        Raises:
            CheckpointError: the tokenizer lacks an id that the config names.
        """
        named = _named_tokens(tokenizer, special_tokens)
        self._tokenizer = _plain_text_tokenizer(tokenizer, set(named.values()))
        self._control_ids = {
            token.content: token_id
            for token_id, token in self._tokenizer.get_added_tokens_decoder().items()
            if token.special
        } | {text: getattr(special_tokens, name) for name, text in named.items()}
        # Longest first: a token that begins with another one must win over it.
        longest_first = sorted(self._control_ids, key=len, reverse=True)
        self.control_pattern = re.compile("|".join(re.escape(text) for text in longest_first))
        self.special_tokens = special_tokens
        self.chat_template = chat_template
        self.end_ids = frozenset(end_ids) | {special_tokens.end_of_turn}

    @classmethod
    def from_directory(cls, directory: Path, special_tokens: SpecialTokens) -> Vocabulary:
        """Read a tokenizer directory.

        Raises:
            CheckpointError: tokenizer.json is missing or damaged, or lacks an id that the
                checkpoint's config names.
        """
        path = Path(directory) / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(
                f"{path}: no such file; need the tokenizer in one JSON file. "
                "AutoTokenizer.from_pretrained(...).save_pretrained(...) writes it"
            )
        try:
            tokenizer = Tokenizer.from_str(path.read_text("utf-8"))
        except Exception as error:  # the Rust side raises bare Exception
            raise CheckpointError(f"{path}: no tokenizer can be read from it ({error})") from error
        settings = _read_json(path.with_name("tokenizer_config.json"))
        generation = _read_json(path.with_name("generation_config.json"))
        return cls(
            tokenizer,
            special_tokens,
            chat_template=_read_chat_template(path.parent, settings),
            end_ids=_end_ids(generation, path.parent),
        )

    @property
    def size(self) -> int:
        """Ids the tokenizer knows; the embedding of the model may have more rows."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Ids of the text alone: a control token spelled out in it stays ordinary text."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int], *, keep_control_tokens: bool = False) -> str:
        """Text of the ids; stray bytes become U+FFFD, ids beyond `size` nothing."""
        return self._tokenizer.decode(ids, skip_special_tokens=not keep_control_tokens)

    def token_id(self, text: str) -> int | None:
        """Id of one token by its text, control or not."""
        return self._tokenizer.token_to_id(text)

    def token_text(self, token_id: int) -> str | None:
        """Text of one token as the vocabulary spells it; the inverse of `token_id`."""
        return self._tokenizer.id_to_token(token_id)

    def control_id(self, text: str) -> int | None:
        """Id of a control token by its text; None: no control token is spelled so."""
        return self._control_ids.get(text)

    def fingerprint(self) -> str:
        """Changes with the tokenizer and the template: other ids for the same chat."""
        parts = (self._tokenizer.to_str(), repr(self.chat_template))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def text_stream(self, *, keep_control_tokens: bool = False) -> TextStream:
        """A decoder that takes one id at a time."""
        return TextStream(self, keep_control_tokens=keep_control_tokens)


class TextStream:
    """Text of a growing sequence of ids, released in whole characters.

    The pieces joined are the text `Vocabulary.decode` gives for all ids at once.

    >>> "".join([stream.push(i) for i in ids] + [stream.flush()])  # doctest: +SKIP
    """

    def __init__(self, vocabulary: Vocabulary, *, keep_control_tokens: bool = False) -> None:
        self._vocabulary = vocabulary
        self._keep_control_tokens = keep_control_tokens
        # A decoder may drop the space before the first word, so the window starts one step back.
        self._context: list[int] = []
        self._pending: list[int] = []
        self._num_released = 0

    def push(self, token_id: int) -> str:
        """What the id completes; empty while a character still lacks bytes."""
        self._pending.append(token_id)
        text = self._window_text()
        # Bytes of an unfinished character decode to U+FFFD at the end of the text, and only there
        # may they still change.
        settled = text.rstrip(_REPLACEMENT)
        released = settled[self._num_released :]
        self._num_released = max(self._num_released, len(settled))
        if released and len(settled) == len(text):
            self._start_window()
        return released

    def flush(self) -> str:
        """The rest, unfinished characters as U+FFFD; the stream is then as new."""
        rest = self._window_text()[self._num_released :]
        self._context, self._pending, self._num_released = [], [], 0
        return rest

    def _window_text(self) -> str:
        return self._vocabulary.decode(
            self._context + self._pending, keep_control_tokens=self._keep_control_tokens
        )

    def _start_window(self) -> None:
        self._context, self._pending = self._pending, []
        self._num_released = len(self._window_text())


def _named_tokens(tokenizer: Tokenizer, special_tokens: SpecialTokens) -> dict[str, str]:
    """Text of every token the config names, by the name of its field."""
    named: dict[str, str] = {}
    for field in dataclasses.fields(special_tokens):
        token_id = getattr(special_tokens, field.name)
        if token_id is None:
            continue
        text = tokenizer.id_to_token(token_id)
        if text is None:
            raise CheckpointError(
                f"the config gives {field.name} the id {token_id}, the tokenizer has none such "
                f"(it knows {tokenizer.get_vocab_size()} tokens); they are not of one checkpoint"
            )
        named[field.name] = text
    return named


def _plain_text_tokenizer(tokenizer: Tokenizer, control_texts: set[str]) -> Tokenizer:
    """The tokenizer made to read every control token as ordinary text and never to cut or pad."""
    added = tokenizer.get_added_tokens_decoder().values()
    if not control_texts <= {token.content for token in added if token.special}:
        # The flag of a token can only be set in the description; with 150 000 tokens that is slow.
        tokenizer = _with_special(tokenizer, control_texts)
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _with_special(tokenizer: Tokenizer, texts: set[str]) -> Tokenizer:
    description = json.loads(tokenizer.to_str())
    for token in description["added_tokens"]:
        token["special"] = token["special"] or token["content"] in texts
    return Tokenizer.from_str(json.dumps(description))


def _read_text(path: Path) -> str:
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise CheckpointError(
            f"{path}: {path.stat().st_size:,} bytes; need {_MAX_TEXT_BYTES:,} at most"
        )
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: no UTF-8 text ({error})") from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(
            _read_text(path), parse_constant=_no_constant, object_pairs_hook=_no_duplicates
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: no valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: need a JSON object, found a {type(content).__name__}")
    return content


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return content


def _read_chat_template(directory: Path, settings: dict[str, Any]) -> ChatTemplate | None:
    jinja = directory / "chat_template.jinja"
    if jinja.is_file():
        source: object = _read_text(jinja)
    else:
        beside = _read_json(directory / "chat_template.json")
        source = beside.get("chat_template", settings.get("chat_template"))
    if isinstance(source, list):  # several, each with a name
        source = next(
            (
                entry.get("template")
                for entry in source
                if isinstance(entry, dict) and entry.get("name") == "default"
            ),
            None,
        )
    if source is None:
        return None
    if not isinstance(source, str):
        raise CheckpointError(
            f"{directory}: the chat template is a {type(source).__name__}; need a string"
        )
    return ChatTemplate(
        source=source,
        bos_token=_token_text(settings.get("bos_token")),
        eos_token=_token_text(settings.get("eos_token")),
    )


def _token_text(entry: object) -> str:
    """A token of tokenizer_config.json: a string, an object with `content`, or null."""
    if isinstance(entry, dict):
        entry = entry.get("content")
    return entry if isinstance(entry, str) else ""


def _end_ids(generation: dict[str, Any], directory: Path) -> list[int]:
    ids = generation.get("eos_token_id", [])
    ids = ids if isinstance(ids, list) else [ids]
    ids = [token_id for token_id in ids if token_id is not None]
    if not all(isinstance(token_id, int) for token_id in ids):
        raise CheckpointError(f"{directory}/generation_config.json: eos_token_id is {ids}")
    return ids
