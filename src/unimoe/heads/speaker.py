"""The speech head of mini: sentences become codes, codes become sound while they come.

In:  a sentence of letters, a voice.  Out: codes int, one by one; sound float32 [samples] in pieces.
Axes: samples = at the codec's rate; codes = so many of them each.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from unimoe.config import MelCodecConfig, SpeakerConfig, TimedTalkerConfig
from unimoe.errors import CheckpointError, RequestError
from unimoe.heads.code_stream import CodeStream
from unimoe.heads.head_files import read_head, write_head
from unimoe.heads.mel_codec import MelCodec
from unimoe.heads.speech_rows import SpeechExample, collate_speech
from unimoe.heads.timed_talker import TimedTalker, moments_of
from unimoe.nn.cache import KVCache

TALKER, CODEC = "talker", "codec"
"""Names of the files of a checkpoint that hold them."""
_PIECE_CODES = 20
"""Half a second of sound is decoded at once."""
_MAX_CODES = 1200
_MAX_ROWS = 4096
_NAMES = """ay bee see dee ee eff jee aitch eye jay kay ell em en oh pee cue are ess tee you vee
double-you ex why zee"""
_LETTER_NAMES = dict(zip(string.ascii_uppercase, _NAMES.split(), strict=True))
_SPELT = re.compile(r"\b(?:[A-Z](?: [A-Z])+|[B-HJ-Z])\b(?!')")
"""Several capitals in a row, or one that is no word: not "A" and not "I"."""
_SLOWEST, _FASTEST = 0.2, 5.0
_CANDIDATES, _TEMPERATURE = 40, 0.7


class _Prompt(NamedTuple):
    """What a sentence begins with."""

    start: Float[Tensor, " hidden"]
    """The row that writes the first code, without its letter."""
    said: Float[Tensor, "codes hidden"]
    """The letter of every code."""


class Speaker(nn.Module):
    """Talker and codec."""

    def __init__(self, config: SpeakerConfig) -> None:
        super().__init__()
        self.config = config
        self.talker = TimedTalker(config.talker)
        self.codec = MelCodec(config.codec)

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of the voices it has."""
        return self.config.talker.voices

    @property
    def sample_rate_hz(self) -> int:
        """Of its sound."""
        return self.config.codec.sample_rate_hz

    @property
    def codes_per_second(self) -> float:
        """Codes of a second of sound."""
        return self.config.codec.codes_per_second

    def write(
        self,
        text: str,
        *,
        voice: str,
        pace: float = 1.0,
        context: Sequence[int] = (),
        seed: int | None = None,
    ) -> Iterator[int]:
        """The codes of a sentence, one by one.

        Args:
            text: of the characters the talker knows; case is not heard.
            voice: one of `voices`.
            pace: of speech; 1.2 takes 1.2 times less time.
            context: the last codes of the sentence before, or none.
            seed: of a draw; None: the likeliest code each time.

        Raises:
            RequestError: a character or voice it does not know, nothing to say, an impossible
                pace, or more than 30 s of speech.
        """
        if not _SLOWEST <= pace <= _FASTEST:
            raise RequestError(f"pace is {pace}; need {_SLOWEST} to {_FASTEST}")
        config = self.config.talker
        example = SpeechExample(
            voice_ids=[self._voice_id(voice)],
            text_ids=text_ids(text, config.characters),
            context_codes=list(context),
        )
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        cache = KVCache(config.talker.num_layers, max_length=_MAX_ROWS)
        prompt = self._read(example, pace, cache)
        if len(prompt.said) > _MAX_CODES:
            raise RequestError(
                f"{text[:40]!r}… would take {len(prompt.said) / self.codes_per_second:.0f} s; a "
                f"sentence has at most {_MAX_CODES / self.codes_per_second:.0f} s. Cut it"
            )
        row = prompt.start
        for letter in prompt.said:
            logits = self._logits(row + letter, cache)
            code = _drawn(logits, generator)
            yield code
            row = self.talker.talker.code_embedding.weight[code]

    @torch.no_grad()
    def _read(self, example: SpeechExample, pace: float, cache: KVCache) -> _Prompt:
        """Put all before the codes into the cache."""
        talker = self.talker
        rows = collate_speech([example], self.config.talker.talker)
        inputs = talker.talker.embed(rows.ids, rows.is_text)
        # The last row, CODES_START, waits for the first letter.
        states = talker(inputs[:, :-1], rows.visible[:, :-1, :-1], cache=cache)
        ids = torch.tensor([list(example.text_ids)])
        lasting = talker.durations(states[:, -1 - ids.shape[1] : -1]) / pace
        moments = moments_of(rounded_durations(lasting[0])[None])
        near = talker.letters_near(ids, torch.ones_like(ids, dtype=torch.bool))
        return _Prompt(inputs[0, -1], talker.said_at(near, moments)[0])

    @torch.no_grad()
    def _logits(self, row: Float[Tensor, " hidden"], cache: KVCache) -> Float[Tensor, " codes"]:
        states = self.talker(row[None, None], None, cache=cache)
        logits: Tensor = self.talker.talker.head(states[0, -1])
        return logits[: self.config.codec.num_codes].float()

    def sound(self, codes: Iterable[int]) -> Iterator[Float32[np.ndarray, " samples"]]:
        """The sound of codes, in pieces, as soon as their neighbours are there.

        All pieces together are what decoding at once gives.
        """
        stream = CodeStream(self.codec)
        for code in codes:
            stream.push(code)
            if stream.num_ready >= _PIECE_CODES:
                yield stream.piece(_PIECE_CODES).numpy()
        if stream.num_left:
            yield stream.piece(stream.num_left).numpy()

    def _voice_id(self, voice: str) -> int:
        config = self.config.talker
        if voice not in config.voices:
            raise RequestError(f"no voice {voice!r}; there are {', '.join(config.voices)}")
        return len(config.characters) + config.voices.index(voice)


def write_speaker(speaker: Speaker, directory: Path) -> None:
    """Write talker and codec, two files each (`head_files`): a talker may change alone."""
    write_head(speaker.talker, speaker.config.talker, directory, TALKER)
    write_head(speaker.codec, speaker.config.codec, directory, CODEC)


def read_speaker(directory: Path) -> Speaker | None:
    """The speaker of a directory; None: it holds none.

    Raises:
        CheckpointError: talker or codec is missing or damaged, or they are not of one kind.
    """
    talker = read_head(directory, TALKER, TimedTalkerConfig, TimedTalker)
    codec = read_head(directory, CODEC, MelCodecConfig, MelCodec)
    if talker is None and codec is None:
        return None
    if talker is None or codec is None:
        raise CheckpointError(
            f"{directory}: holds a {CODEC if talker is None else TALKER} without a "
            f"{TALKER if talker is None else CODEC}; who speaks has both"
        )
    with torch.device("meta"):
        speaker = Speaker(SpeakerConfig(talker=talker.config, codec=codec.config))
    speaker.talker, speaker.codec = talker, codec
    return speaker.eval()


def spelt_out(text: str) -> str:
    """Capitals that stand alone by their names: "you ess" for "U S"."""
    return _SPELT.sub(lambda found: _named(found[0]), text)


def text_ids(text: str, characters: str) -> list[int]:
    """The ids of a sentence, spelt out.

    Raises:
        RequestError: it is empty, or holds another character.
    """
    plain = spelt_out(text).lower()
    wrong = sorted(set(plain) - set(characters))
    if wrong or not plain.strip():
        raise RequestError(
            f"{text[:60]!r} cannot be said: it holds {wrong or 'nothing'}; need some of "
            f"{characters!r}. Write numbers and signs as words"
        )
    return [characters.index(character) for character in plain]


def _named(letters: str) -> str:
    return " ".join(_LETTER_NAMES[letter] for letter in letters.split())


def rounded_durations(durations: Float[Tensor, " characters"]) -> Int[Tensor, " characters"]:
    """Whole codes whose running sums are the rounded sums; at least one in all."""
    ends = durations.double().cumsum(0).round().long()
    ends[-1] = ends[-1].clamp_min(1)
    return torch.diff(ends, prepend=ends.new_zeros(1))


def _drawn(logits: Float[Tensor, " codes"], generator: torch.Generator | None) -> int:
    """The likeliest code, or one of the likelier ones."""
    if generator is None:
        return int(logits.argmax())
    best = logits.topk(min(_CANDIDATES, len(logits)))
    chances = (best.values / _TEMPERATURE).softmax(-1)
    return int(best.indices[torch.multinomial(chances, 1, generator=generator)])
