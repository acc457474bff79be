"""How the talker learns: sentences as codes, and every letter with the codes it lasts.

In:  recordings, a codec and its aligner.  Out: `SpokenCodes`, kept in a file; batches by number;
the loss of one.
Axes: codes, characters = of all sentences one after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from safetensors.torch import load_file
from torch import Tensor

from unimoe.config import TimedTalkerConfig
from unimoe.errors import DataError
from unimoe.heads.aligner import Aligner, durations_of, letters_of
from unimoe.heads.mel_codec import MelCodec
from unimoe.heads.speaker import text_ids
from unimoe.heads.speech_rows import SpeechExample
from unimoe.heads.timed_talker import (
    TimedBatch,
    TimedExample,
    TimedTalker,
    collate_timed,
    timed_losses,
)
from unimoe.nn.precision import mixed_precision
from unimoe.train.countdown import Countdown
from unimoe.train.head_loop import HeadLoss
from unimoe.train.readings import Reading, ReadingBatch, loaded_batch, voice_shares
from unimoe.train.state import write_whole

_ENCODED_AT_ONCE = 16
_CONTEXT_SHARE = 0.5
_CONTEXT_CODES = (10, 60)
_FORGOTTEN_SHARE = 0.15
_DURATION_WEIGHT = 0.5
_CANDIDATES = 4
"""So many batches are drawn at once, of which the stretch of alike lengths is taken."""

_logger = logging.getLogger(__name__)


class Spoken(NamedTuple):
    """One sentence as the talker learns it."""

    reading: Reading
    codes: Int64[np.ndarray, " codes"]
    durations: Int64[np.ndarray, " characters"]


@dataclass(frozen=True)
class SpokenCodes:
    """Sentences in a row."""

    readings: Sequence[Reading]
    codes: Tensor
    durations: Tensor
    num_codes: Tensor
    """Of every sentence; 0: the aligner could not lay its text along it, and it is left out."""

    def sentences(self) -> Iterator[Spoken]:
        """All of them."""
        start = letters = 0
        for reading, count in zip(self.readings, self.num_codes.tolist(), strict=True):
            if not count:
                continue
            length = len(reading.text)
            yield Spoken(
                reading,
                self.codes[start : start + count].numpy(),
                self.durations[letters : letters + length].numpy(),
            )
            start, letters = start + count, letters + length


@torch.no_grad()
def spoken_codes(
    readings: Sequence[Reading], codec: MelCodec, aligner: Aligner, kept: Path
) -> SpokenCodes:
    """Codes and durations of recordings; read from `kept` if they are there.

    Raises:
        DataError: what is kept is of other recordings.
    """
    if kept.exists():
        found = load_file(kept)
        if len(found["num_codes"]) != len(readings):
            raise DataError(
                f"{kept} holds {len(found['num_codes'])} sentences, {len(readings)} are there; "
                "remove it, and it is made anew"
            )
        return SpokenCodes(readings, **found)
    codes: list[Tensor] = []
    durations: list[Tensor] = []
    counts: list[int] = []
    countdown = Countdown("codes of sentences", len(readings), _logger)
    for start in range(0, len(readings), _ENCODED_AT_ONCE):
        for own, lasting in _encoded(readings[start : start + _ENCODED_AT_ONCE], codec, aligner):
            codes.append(own)
            durations.append(lasting)
            counts.append(len(own))
        countdown.at(len(counts))
    if num_left_out := counts.count(0):
        told = "%d of %d sentences left out: text and sound do not fit"
        _logger.warning(told, num_left_out, len(counts))
    tensors = {
        "codes": torch.cat(codes),
        "durations": torch.cat(durations),
        "num_codes": torch.tensor(counts),
    }
    write_whole(tensors, kept, {})
    return SpokenCodes(readings, **tensors)


@torch.no_grad()
def paired_codes(spoken: Sequence[Spoken], codec: MelCodec) -> tuple[Tensor, Tensor]:
    """What another codec writes of the recordings of sentences, and what these have: [codes] each.

    Raises:
        MediaError: a recording cannot be read.
    """
    others: list[Tensor] = []
    for start in range(0, len(spoken), _ENCODED_AT_ONCE):
        own = spoken[start : start + _ENCODED_AT_ONCE]
        rows = _codes_of(
            loaded_batch([each.reading for each in own], codec.config.sample_rate_hz), codec
        )
        others += [row[: len(each.codes)] for row, each in zip(rows, own, strict=True)]
    return torch.cat(others), torch.cat([torch.from_numpy(each.codes) for each in spoken])


def _codes_of(batch: ReadingBatch, codec: MelCodec) -> Int64[Tensor, "batch codes"]:
    with mixed_precision(batch.waveform.device.type):
        vectors = codec.encoder(batch.waveform).float()
    return codec.nearest_codes(vectors)


def _encoded(
    readings: Sequence[Reading], codec: MelCodec, aligner: Aligner
) -> Iterator[tuple[Tensor, Tensor]]:
    """Codes and durations of each; none of either where they do not fit."""
    batch = loaded_batch(readings, codec.config.sample_rate_hz)
    codes = _codes_of(batch, codec)
    with mixed_precision(batch.waveform.device.type):
        scores = aligner(codec.codebook[codes]).float()
    none = torch.zeros(0, dtype=torch.long)
    for number, text in enumerate(batch.texts):
        count = -(-int(batch.lengths[number]) // codec.config.samples_per_code)
        try:
            lasting = durations_of(scores[number, :count], letters_of(text))
        except DataError:
            yield none, none
            continue
        yield codes[number, :count], torch.from_numpy(lasting)


class TalkerBatches:
    """The examples of a step: drawn anew for each, the same whenever it is asked for."""

    def __init__(
        self, sentences: Sequence[Spoken], config: TimedTalkerConfig, batch_size: int, seed: int
    ) -> None:
        self._sentences, self._config = sentences, config
        self._batch_size, self._seed = batch_size, seed
        self._shares = voice_shares([sentence.reading.voice for sentence in sentences])
        self._of_voice: dict[str, list[int]] = {}
        for number, sentence in enumerate(sentences):
            self._of_voice.setdefault(sentence.reading.voice, []).append(number)

    def __call__(self, step: int) -> TimedBatch:
        """The batch of a step."""
        chooser = np.random.default_rng([self._seed, step])
        drawn = chooser.choice(
            len(self._sentences), size=_CANDIDATES * self._batch_size, p=self._shares
        )
        ordered = sorted(drawn.tolist(), key=lambda number: len(self._sentences[number].codes))
        start = self._batch_size * int(chooser.integers(_CANDIDATES))
        chosen = ordered[start : start + self._batch_size]
        return collate_timed(
            [self._example(self._sentences[number], chooser) for number in chosen], self._config
        )

    def _example(self, sentence: Spoken, chooser: np.random.Generator) -> TimedExample:
        context: list[int] = []
        voice = sentence.reading.voice
        if chooser.random() < _CONTEXT_SHARE:
            other = self._sentences[int(chooser.choice(self._of_voice[voice]))]
            context = other.codes[-int(chooser.integers(*_CONTEXT_CODES)) :].tolist()
        return timed_example(sentence, self._config, context)


def timed_example(
    sentence: Spoken, config: TimedTalkerConfig, context: Sequence[int] = ()
) -> TimedExample:
    """A sentence for the talker."""
    voice_id = len(config.characters) + config.voices.index(sentence.reading.voice)
    return TimedExample(
        speech=SpeechExample(
            voice_ids=[voice_id],
            text_ids=text_ids(sentence.reading.text, config.characters),
            context_codes=context,
            codes=sentence.codes.tolist(),
        ),
        durations=sentence.durations.tolist(),
    )


def talker_objective(model: TimedTalker, batch: TimedBatch) -> HeadLoss:
    """Codes and durations of one batch."""
    forgotten = _FORGOTTEN_SHARE if model.training else 0.0
    with mixed_precision(batch.text_ids.device.type):
        losses = timed_losses(model, batch, forgotten=forgotten)
    total = losses["codes"] + _DURATION_WEIGHT * losses["durations"]
    return HeadLoss(total, {name: float(loss.detach()) for name, loss in losses.items()})


@torch.no_grad()
def start_from_codebook(model: TimedTalker, codec: MelCodec) -> None:
    """Codes that sound alike begin with alike embeddings, and alike rows of the head."""
    table = codec.codebook / codec.codebook.std()
    for weight in (model.talker.code_embedding.weight, model.talker.head.weight):
        projection = torch.randn(table.shape[1], weight.shape[1]) / table.shape[1] ** 0.5
        weight[: len(table)] = table @ projection * weight.std()


@torch.no_grad()
def take_dense(model: TimedTalker, dense: Mapping[str, Tensor]) -> None:
    """Start every expert as the dense block: whichever two are taken, the sum is what it was.

    Gates are new; of what the dense talker learned only its gate, which had no choice, is left.

    Args:
        model: the mixture.
        dense: parameters of the same talker with one expert.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("moe.gate.weight"):
            continue
        values = dense[name]
        is_expert = name.endswith(("moe.gate_up", "moe.down"))
        parameter.copy_(values.expand_as(parameter) if is_expert else values)
