"""Dictation: recordings whose transcript to learn is the one that stands in their own clips.

In:  a prepared set of recordings, each with its transcript.  Out: `TrainSample`s that answer with
what the writer wrote (docs/architecture.md, "Written words").
A recording changed by noise or echo is misheard now and then. To learn what was really said there
is to learn that what is read need not be said again, and so to make up what sounds likely. What is
written can be copied, however odd it is.
"""

from __future__ import annotations

import dataclasses

import torch

from unimoe.config import OmniConfig
from unimoe.encoders.written_words import written_tokens
from unimoe.errors import DataError
from unimoe.tokens.labels import IGNORED
from unimoe.tokens.sequence import count_tokens
from unimoe.tokens.vocabulary import Vocabulary
from unimoe.train.batches import TrainSample
from unimoe.train.prepared import PreparedSet


class DictationSamples:
    """A source of the recordings of a set in which anything is written."""

    def __init__(self, spoken: PreparedSet, vocabulary: Vocabulary, config: OmniConfig) -> None:
        """Read what is written in every recording.

        Raises:
            DataError: nothing is written in any.
        """
        self._spoken, self._vocabulary, self._config = spoken, vocabulary, config
        self._texts: list[tuple[int, str]] = []
        self.lengths: list[int] = []
        for index, entry in enumerate(spoken):
            if text := self._written(entry):
                self._texts.append((index, text))
                self.lengths.append(len(self._answered(entry, text).sample.input_ids))
        if not self._texts:
            raise DataError(
                f"{spoken.name}: nothing is written in its recordings; they need speech"
            )

    def __getitem__(self, number: int, /) -> TrainSample:
        index, text = self._texts[number]
        return self._answered(self._spoken[index], text)

    def _answered(self, entry: TrainSample, text: str) -> TrainSample:
        """The recording with this answer instead of its own."""
        sample = entry.sample
        assert sample.labels is not None  # a prepared sample has an answer
        answer = (sample.labels != IGNORED).nonzero().flatten()
        start, end = int(answer[0]), int(answer[-1])
        said = torch.tensor(self._vocabulary.encode(text))
        # The token that ends the answer, and what stands behind it, stay.
        ids = torch.cat([sample.input_ids[:start], said, sample.input_ids[end:]])
        labels = torch.full_like(ids, IGNORED)
        labels[start : start + len(said) + 1] = ids[start : start + len(said) + 1]
        counts = count_tokens(ids, self._config.special_tokens)
        answered = dataclasses.replace(sample, input_ids=ids, labels=labels, token_counts=counts)
        return entry._replace(sample=answered)

    def _written(self, entry: TrainSample) -> str:
        """The transcript that stands in the clips."""
        assert self._config.audio is not None
        states = entry.sample.audio_states
        assert states is not None  # a recording
        tokens = written_tokens(states[:, self._config.audio.max_source_positions :])
        return self._vocabulary.decode(tokens[tokens >= 0].tolist()).strip()
