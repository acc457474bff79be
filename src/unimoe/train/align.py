"""Alignment of speech: audio embeddings learn to be the word embeddings of what is said.

In:  packed rows, each sample one audio and its transcript as the answer.  Out: `ForwardLoss`.
The language core is not run.  Every audio embedding scores the tokens of a vocabulary by its
distance to their rows of the embedding table, and CTC sums over the ways in which the transcript
can be spread over the audio; the row of the audio placeholder stands for "nothing new".

    score(p, token) = sharpness * (p . e - |e|^2 / 2)  =  -sharpness / 2 |p - e|^2 + const

So a trained connector speaks the core's own language before the core has heard anything.
Source: connectionist temporal classification (docs/sources.md#alignment).
Axes: samples = of all rows, steps = audio embeddings of the longest, scored = answer tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from unimoe.errors import TrainingError
from unimoe.model.loss import scored_tokens
from unimoe.model.omni import OmniModel
from unimoe.train.batches import SampleSource, TrainBatch
from unimoe.train.losses import ForwardLoss

SHARPNESS = 0.7
"""Learned freely it settled here on SmolLM2's table, whose rows have norms near 2.7."""
_BLANK = 0


class _Spoken(NamedTuple):
    """What one sample says, and how long it takes."""

    targets: Int[Tensor, " tokens"]
    """Classes: places in the vocabulary + 1."""
    num_steps: int
    num_scored: int
    """Answer tokens, the end of the turn included."""


class SpeechAlignment:
    """The objective; `token_ids` are all tokens that transcripts may hold."""

    def __init__(self, token_ids: Iterable[int]) -> None:
        self._token_ids = torch.tensor(sorted(set(token_ids)))

    def __call__(self, model: OmniModel, batch: TrainBatch, *, with_z: bool) -> ForwardLoss:
        """CTC of every sample, spread evenly over its scored tokens.

        Raises:
            TrainingError: a transcript holds a token that is not in the vocabulary, or the rows
                hold no audio.
        """
        inputs = batch.batch
        if model.audio is None or inputs.audio_states is None or inputs.labels is None:
            raise TrainingError("alignment needs a model that hears, audio, and transcripts")
        spoken = self._spoken(model, batch)
        with model.core_precision():
            embeddings = model.audio.connect(inputs.audio_states).flatten(0, 1)
        steps = [sample.num_steps for sample in spoken]
        padded = torch.nn.utils.rnn.pad_sequence(list(torch.split(embeddings, steps)))
        losses = functional.ctc_loss(
            self.scores(model, padded).float().log_softmax(-1),  # [steps, samples, classes]
            torch.cat([sample.targets for sample in spoken]),
            torch.tensor(steps),
            torch.tensor([len(sample.targets) for sample in spoken]),
            blank=_BLANK,
            reduction="none",
            zero_infinity=True,  # said faster than embeddings come: nothing can be learned of it
        )
        counts = torch.tensor([sample.num_scored for sample in spoken])
        share = (losses.detach() / counts).repeat_interleave(counts)
        zero = losses.new_zeros(())
        groups = torch.full_like(inputs.input_ids, -1)
        return ForwardLoss(losses.sum(), zero, zero, share, (), groups)

    def scores(
        self, model: OmniModel, embeddings: Float[Tensor, "*places hidden"]
    ) -> Float[Tensor, "*places classes"]:
        """Of "nothing new" and of every token of the vocabulary, in this order."""
        blank = model.config.special_tokens.audio_pad
        assert blank is not None  # a model that hears has the placeholder
        rows = torch.cat([torch.tensor([blank]), self._token_ids])
        table = model.core.embed_tokens.weight[rows].detach()
        offsets = table.float().square().sum(-1) / 2
        return SHARPNESS * (functional.linear(embeddings.to(table.dtype), table) - offsets)

    def _spoken(self, model: OmniModel, batch: TrainBatch) -> list[_Spoken]:
        inputs, special = batch.batch, model.config.special_tokens
        assert inputs.labels is not None
        scored = functional.pad(scored_tokens(inputs.labels, inputs.attention_mask), (1, 0))
        found = []
        for ids, mask, is_scored in zip(
            inputs.input_ids, inputs.attention_mask, scored, strict=True
        ):
            for number in range(1, int(mask.max()) + 1):
                own = mask == number
                answer = ids[own & is_scored]
                words = answer[answer != special.end_of_turn]
                classes = torch.searchsorted(self._token_ids, words)
                if not torch.equal(
                    self._token_ids[classes.clamp(max=len(self._token_ids) - 1)], words
                ):
                    raise TrainingError(
                        "a transcript holds tokens that the alignment's vocabulary lacks; "
                        "make it of the tokens of all its sources"
                    )
                num_steps = int((ids[own] == special.audio_pad).sum())
                found.append(_Spoken(classes + 1, num_steps, len(answer)))
        return found


def answer_tokens(sources: Iterable[SampleSource]) -> set[int]:
    """All tokens that occur in answers of some sources."""
    found: set[int] = set()
    for source in sources:
        for index in range(len(source.lengths)):
            sample = source[index].sample
            assert sample.labels is not None
            found.update(sample.labels[sample.labels >= 0].tolist())
    return found
