"""Long speech: text that still comes, spoken sentence by sentence.

In:  pieces of text.  Out: `SpeechChunk`s, float32 [samples], one a sentence, joined without clicks.

    text ──sentences──▶ "Dr. Lee paid $3." ──spoken_form──▶ "Doctor Lee paid three dollars."
      ──Speaker.write, after the last codes of the sentence before──▶ codes ──Speaker.sound──▶ sound
      ──judged──▶ fine: its silent edges cut, a pause for its last mark, faded in and out
              └─▶ it loops, is silent, breaks off or does not end: written again, drawn by a seed

A sentence is judged before any of it is heard, so nothing has to be taken back; the first one is
kept short, so that it is heard soon. Work is done in small steps (`Speaking.step`): between two of
them text can come in, and whoever stops after any of them stops at once.
Axes: samples = at the speaker's rate, one channel.
"""

import logging
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from time import perf_counter
from typing import NamedTuple

import numpy as np
import soxr
from jaxtyping import Float32

from unimoe.errors import RequestError
from unimoe.infer.speech import SpeechChunk, SpeechOptions
from unimoe.infer.speech_faults import (
    MIN_LOOP_SECONDS,
    Faults,
    loop_length,
    max_seconds,
    sentence_faults,
    without_silent_edges,
)
from unimoe.infer.speech_head import SpeechHead
from unimoe.infer.usage import SpeechUsage
from unimoe.infer.voices import PACES, VoiceSettings, voice_settings
from unimoe.tokens.sentences import SentenceStream, cut_long
from unimoe.tokens.spoken_form import spoken_form

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""At a sentence; the best one is kept."""
CONTEXT_SECONDS = 0.25
"""Of the sentence before; the release has 10 codes (docs/sources.md#talker)."""
FIRST_CHARACTERS = 80
"""Of the first piece at most."""
PAUSE_SECONDS = {".": 0.3, "?": 0.3, "!": 0.3, ",": 0.12}
_EDGE_SECONDS = 0.04  # silence that stays at the edges of a sentence
_FADE_SECONDS = 0.005
_CODES_PER_STEP = 8


class _Sentence(NamedTuple):
    """What is said at once."""

    text: str
    settings: VoiceSettings


class _Attempt(NamedTuple):
    """A sentence as it was written once."""

    codes: list[int]
    samples: Float32[np.ndarray, " samples"]
    faults: Faults


class Speaking:
    """Speech in the making: `push` text, `step` for sound, `finish` once no more text comes.

    Args:
        speaker: says the sentences.
        options: how.
        seed: of what is said again because it was not well said; gives the same again.

    Raises:
        RequestError: a voice that is not understood.
    """

    def __init__(self, speaker: SpeechHead, options: SpeechOptions, *, seed: int) -> None:
        self._speaker = speaker
        self._options = options
        self._seed = seed
        self._settings = self._usual = self._settings_of(options.voice)
        self._text = SentenceStream(options.sentence_split_threshold)
        self._waiting: deque[_Sentence] = deque()
        self._num_queued = 0
        self._context: list[int] = []
        self._context_voice = ""
        self._pause_seconds = 0.0
        self._work: Generator[SpeechChunk | None, None, None] | None = None
        self.usage = SpeechUsage()

    def push(self, text: str) -> None:
        """Take in more text.

        Raises:
            RequestError: it is more than one piece, and `long_form` is False.
        """
        self._queue(self._text.push(text))

    def change_voice(self, description: str | None) -> None:
        """Say what comes now in another voice; None returns to the one asked for.

        A description that is not understood is logged, and what comes is said in that one too: it
        was written by a model, in the middle of an answer.
        """
        self.finish()
        try:
            self._settings = self._usual if description is None else self._settings_of(description)
        except RequestError as error:
            log.warning("%s; the usual voice speaks instead", error)
            self._settings = self._usual

    def finish(self) -> None:
        """No more text comes: what is left of it is a sentence too.

        Raises:
            RequestError: as `push`.
        """
        self._queue(self._text.flush())

    @property
    def is_idle(self) -> bool:
        """True when there is nothing to say at the moment."""
        return self._work is None and not self._waiting

    def step(self) -> SpeechChunk | None:
        """Work a little; a chunk whenever a sentence is done."""
        if self._work is None:
            if not self._waiting:
                return None
            self._work = self._spoken(self._waiting.popleft())
        begun = perf_counter()
        try:
            return next(self._work)
        except StopIteration:
            self._work = None
            return None
        finally:
            self.usage.compute_seconds += perf_counter() - begun

    def rest(self) -> Iterator[SpeechChunk]:
        """Say all that waits."""
        while not self.is_idle:
            if chunk := self.step():
                yield chunk

    def close(self) -> None:
        """Give up at once: what is being written is dropped."""
        self._waiting.clear()
        if self._work is not None:
            self._work.close()
            self._work = None

    def _settings_of(self, voice: str | None) -> VoiceSettings:
        settings = voice_settings(voice, self._speaker.voices)
        pace = min(max(settings.pace * self._options.pace, PACES[0]), PACES[1])
        return settings._replace(pace=pace)

    def _queue(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            for text in self._pieces(spoken_form(sentence)):
                self._num_queued += 1
                if self._num_queued > 1 and not self._options.long_form:
                    raise RequestError(
                        f"the text is longer than one sentence of "
                        f"{self._options.sentence_split_threshold} characters, and long_form is "
                        f"False; set it, raise sentence_split_threshold, or shorten the text"
                    )
                self._waiting.append(_Sentence(text, self._settings))

    def _pieces(self, spoken: str) -> list[str]:
        """The spoken form is longer than what was written, and may have to be cut again."""
        limit = self._options.sentence_split_threshold
        if self._num_queued == 0 and self._options.long_form and len(spoken) > FIRST_CHARACTERS:
            first, *_ = cut_long(spoken, min(limit, FIRST_CHARACTERS))
            pieces = [first, *cut_long(spoken[len(first) :], limit)]
        else:
            pieces = cut_long(spoken, limit)
        return [piece if piece[-1] in PAUSE_SECONDS else piece + "," for piece in pieces]

    def _spoken(self, sentence: _Sentence) -> Generator[SpeechChunk | None, None, None]:
        """One sentence: None after every few codes, then its sound."""
        index = self.usage.num_sentences
        if sentence.settings.voice != self._context_voice:
            self._context, self._context_voice = [], sentence.settings.voice
        best: _Attempt | None = None
        for number in range(MAX_ATTEMPTS):
            # What is likeliest comes first (docs/log.md); where it fails, others are drawn.
            seed = (self._seed + MAX_ATTEMPTS * index + number) % 2**53 if number else None
            attempt = yield from self._attempt(sentence, seed)
            if best is None or attempt.faults.total_seconds < best.faults.total_seconds:
                best = attempt
            if not best.faults.total_seconds:
                break
            log.info("attempt %d at %r: %s", number + 1, sentence.text, attempt.faults)
        assert best is not None
        if best.faults.total_seconds:
            told = f"{sentence.text!r} is not spoken well after {MAX_ATTEMPTS} attempts"
            log.warning("%s: %s", told, best.faults)
        self.usage.num_sentences += 1
        self.usage.num_regenerated += number > 0
        self.usage.num_codes += len(best.codes)
        num_context = round(CONTEXT_SECONDS * self._speaker.codes_per_second)
        self._context = best.codes[-num_context:]
        chunk = self._joined(best.samples, sentence)
        self.usage.seconds += len(chunk.samples) / chunk.sample_rate_hz
        yield chunk

    def _attempt(self, sentence: _Sentence, seed: int | None) -> Generator[None, None, _Attempt]:
        text, (voice, pace, pitch) = sentence
        rate, code_rate = self._speaker.sample_rate_hz, self._speaker.codes_per_second
        max_codes = round(max_seconds(len(text), pace) * code_rate)
        second = round(MIN_LOOP_SECONDS * code_rate)
        codes: list[int] = []
        has_ended = True
        written = self._speaker.write(
            text, voice=voice, pace=pace / pitch, context=self._context, seed=seed
        )
        try:
            for code in written:
                codes.append(code)
                if len(codes) % _CODES_PER_STEP == 0:
                    yield None
                loops = len(codes) % second == 0 and loop_length(codes[-3 * second :], code_rate)
                if loops or len(codes) >= max_codes:
                    has_ended = False
                    break
        finally:
            _close(written)
        pieces = [np.zeros(0, np.float32)]
        for piece in self._speaker.sound(codes):
            pieces.append(piece)
            yield None
        samples = raised(np.concatenate(pieces), pitch)
        faults = sentence_faults(
            codes,
            samples,
            num_characters=len(text),
            pace=pace,
            codes_per_second=code_rate,
            sample_rate_hz=rate,
            has_ended=has_ended,
        )
        return _Attempt(codes, samples, faults)

    def _joined(self, samples: Float32[np.ndarray, " samples"], sentence: _Sentence) -> SpeechChunk:
        """The sound of a sentence after the pause that the one before asks for."""
        rate = self._speaker.sample_rate_hz
        sound = without_silent_edges(samples, rate, kept_seconds=_EDGE_SECONDS).copy()
        fade = np.linspace(0, 1, min(round(_FADE_SECONDS * rate), len(sound)), dtype=np.float32)
        sound[: len(fade)] *= fade
        sound[len(sound) - len(fade) :] *= fade[::-1]
        pause = np.zeros(round(self._pause_seconds * rate), np.float32)
        self._pause_seconds = PAUSE_SECONDS[sentence.text[-1]] / sentence.settings.pace
        return SpeechChunk(np.concatenate([pause, sound]), rate)


def raised(samples: Float32[np.ndarray, " samples"], pitch: float) -> Float32[np.ndarray, " fewer"]:
    """Sound played faster by `pitch`, and so higher; slower below 1."""
    if pitch == 1.0 or not len(samples):
        return samples
    played = soxr.resample(samples, pitch, 1.0, quality="HQ")
    return np.asarray(played, np.float32)


def speak(
    speaker: SpeechHead,
    pieces: Iterable[str],
    options: SpeechOptions | None = None,
    *,
    seed: int = 0,
) -> Generator[SpeechChunk, None, None]:
    """Say a text that may still be coming; `close` stops at once.

    Raises:
        RequestError: a voice that is not understood, nothing that can be said, or more than one
            sentence where `long_form` is False.
    """
    speaking = Speaking(speaker, options or SpeechOptions(), seed=seed)
    try:
        for piece in pieces:
            speaking.push(piece)
            yield from speaking.rest()
        speaking.finish()
        yield from speaking.rest()
    finally:
        speaking.close()
    if not speaking.usage.num_sentences:
        raise RequestError("there is nothing in the text that can be said; need a word")


def _close(written: Iterator[int]) -> None:
    """Let a generator of codes go at once, not when it is collected."""
    if isinstance(written, Generator):
        written.close()
