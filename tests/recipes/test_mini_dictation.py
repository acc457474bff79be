"""Recordings answered with what is written in them."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch

from unimoe.checkpoint.weights import load_model
from unimoe.config import AUDIO_RATE_HZ, OmniConfig
from unimoe.encoders.written_words import digits
from unimoe.errors import DataError
from unimoe.recipes.mini_dictation import DictationSamples
from unimoe.tokens.message import AudioPart, Message, TextPart
from unimoe.tokens.sequence import encode_chat
from unimoe.tokens.vocabulary import Vocabulary
from unimoe.train.batches import SampleSource, TrainSample
from unimoe.train.prepared import PreparedSet

Record: TypeAlias = Callable[..., TrainSample]

NUM_PLACES = 20
"""Of a clip in which something may be written."""
CLIP_SAMPLES = 3 * AUDIO_RATE_HZ


class Recordings(PreparedSet):
    """A prepared set of which nothing stands in files."""

    def __init__(self, entries: Sequence[TrainSample]) -> None:
        self.name = "speech-train"
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int, /) -> TrainSample:
        return self._entries[index]


@pytest.fixture(scope="module")
def config(tiny_directory: Path) -> OmniConfig:
    return load_model(tiny_directory).config


@pytest.fixture(scope="module")
def vocabulary(tiny_directory: Path, config: OmniConfig) -> Vocabulary:
    return Vocabulary.from_directory(tiny_directory, config.special_tokens)


@pytest.fixture(scope="module")
def record(config: OmniConfig, vocabulary: Vocabulary) -> Record:
    def recording(said: str, *written: str) -> TrainSample:
        """A recording of which its clips hold what is written, as a prepared set has it."""
        sound = (np.zeros(len(written) * CLIP_SAMPLES, np.float32), AUDIO_RATE_HZ)
        messages = [
            Message("user", (AudioPart(sound), TextPart("Transcribe the speech."))),
            Message("assistant", (TextPart(said),)),
        ]
        sample = encode_chat(messages, vocabulary, config, with_labels="assistant")
        assert config.audio is not None
        assert sample.audio_features is not None
        assert len(sample.audio_features) == len(written)
        steps = config.audio.max_source_positions
        states = torch.randn(len(written), steps + NUM_PLACES, config.audio.hidden_size)
        for clip, text in enumerate(written):
            tokens = torch.full((NUM_PLACES,), -1)
            ids = torch.tensor(vocabulary.encode(text), dtype=torch.int64)
            tokens[1 : 1 + len(ids)] = ids
            states[clip, steps:, :3] = digits(tokens)
        prepared = dataclasses.replace(sample, audio_features=None, audio_states=states)
        return TrainSample(prepared, "asr", "audio")

    return recording


def dictation(
    recordings: list[TrainSample], vocabulary: Vocabulary, config: OmniConfig
) -> DictationSamples:
    return DictationSamples(Recordings(recordings), vocabulary, config)


def answer_of(entry: TrainSample, vocabulary: Vocabulary) -> str:
    labels = entry.sample.labels
    assert labels is not None
    return vocabulary.decode(labels[labels >= 0].tolist(), keep_control_tokens=True)


def test_what_is_written_in_all_clips_is_the_answer(
    record: Record, vocabulary: Vocabulary, config: OmniConfig
) -> None:
    heard = record("The lemon was green.", " The lemmon", " was greed and.")
    found = dictation([heard], vocabulary, config)[0]
    assert answer_of(found, vocabulary) == "The lemmon was greed and.<|im_end|>"
    assert found.sample.audio_states is not None
    assert found.sample.audio_states.equal(heard.sample.audio_states)
    assert found[1:] == heard[1:]


def test_where_all_is_heard_right_nothing_changes(
    record: Record, vocabulary: Vocabulary, config: OmniConfig
) -> None:
    heard = record("Two dogs sleep here.", " Two dogs", " sleep here.").sample
    found = dictation([TrainSample(heard, "asr", "audio")], vocabulary, config)[0].sample
    assert found.input_ids.equal(heard.input_ids)
    assert found.labels is not None
    assert found.labels.equal(heard.labels)
    assert found.token_counts == heard.token_counts


def test_recordings_in_which_nothing_is_written_are_left_out(
    record: Record, vocabulary: Vocabulary, config: OmniConfig
) -> None:
    recordings = [record("A", ""), record("B", " bee"), record("C", "", " sea")]
    found = dictation(recordings, vocabulary, config)
    answers = [answer_of(found[number], vocabulary) for number in range(len(found.lengths))]
    assert answers == ["bee<|im_end|>", "sea<|im_end|>"]
    with pytest.raises(DataError, match="speech-train: nothing is written in its recordings"):
        dictation(recordings[:1], vocabulary, config)


def test_lengths_are_those_of_the_samples(
    record: Record, vocabulary: Vocabulary, config: OmniConfig
) -> None:
    found = dictation(
        [record("short", " a very much longer one"), record("x", " y")], vocabulary, config
    )
    assert isinstance(found, SampleSource)
    assert found.lengths == [len(found[number].sample.input_ids) for number in range(2)]
    assert found.lengths[0] > found.lengths[1]
