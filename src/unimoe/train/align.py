"""Alignment: what is seen and heard learns to be the word embeddings of what is said of it.

In:  packed rows, each sample one medium and what is said of it as answers.  Out: `ForwardLoss`.
The language core is not run.  Every embedding of a medium scores the tokens of a vocabulary by its
distance to their rows of the embedding table:

    score(p, token) = sharpness * (p . e - |e|^2 / 2)  =  -sharpness / 2 |p - e|^2 + const

Where order counts (speech, text in pictures) CTC sums over all ways to spread the answer over the
embeddings, the row of the placeholder standing for "nothing new". Elsewhere the embeddings are a
mixture: each draws one word, and every word of the answers should be likely to be drawn.
So a trained connector speaks the core's own language before the core has seen or heard anything.
Source: connectionist temporal classification (docs/sources.md#alignment).
Axes: samples = of all rows, steps = embeddings of the longest, scored = answer tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from unimoe.errors import TrainingError
from unimoe.model.loss import scored_tokens
from unimoe.model.omni import OmniModel
from unimoe.train.batches import SampleSource, TrainBatch
from unimoe.train.losses import ForwardLoss

SHARPNESS = 0.7
"""Learned freely it settled here on SmolLM2's table, whose rows have norms near 2.7."""
ORDERED_TASKS = frozenset({"asr", "ocr"})
"""Tasks whose answer is read off in order."""
_BLANK = 0


class _Said(NamedTuple):
    """What is said of one medium, and how many embeddings it has."""

    targets: Int[Tensor, " tokens"]
    """Classes: places in the vocabulary + 1."""
    num_steps: int
    num_scored: int
    """Answer tokens, all of them."""
    is_ordered: bool


class WordAlignment:
    """The objective."""

    def __init__(self, *, in_order: Iterable[int] = (), as_mixture: Iterable[int] = ()) -> None:
        """Take the vocabulary.

        Args:
            in_order: all tokens that answers of `ORDERED_TASKS` hold.
            as_mixture: tokens that tell of a medium; others in other answers count nothing.
        """
        self._mixture = frozenset(as_mixture)
        self._token_ids = torch.tensor(sorted({*in_order, *self._mixture}))

    def __call__(self, model: OmniModel, batch: TrainBatch, *, with_z: bool) -> ForwardLoss:
        """The loss of every sample, spread evenly over its answer tokens.

        Raises:
            TrainingError: an ordered answer holds a token that is not in the vocabulary, or a
                sample has not exactly one kind of media, as states of its tower.
        """
        said = self._said(model, batch)
        embeddings = pad_sequence(self._embeddings(model, batch, said))  # [steps, samples, hidden]
        scores = self.scores(model, embeddings).float().log_softmax(-1)
        ordered = [n for n, sample in enumerate(said) if sample.is_ordered]
        mixed = [n for n, sample in enumerate(said) if not sample.is_ordered]
        losses = scores.new_zeros(len(said))
        if ordered:
            losses[ordered] = _in_order(scores[:, ordered], [said[n] for n in ordered])
        if mixed:
            losses[mixed] = _as_mixture(scores[:, mixed], [said[n] for n in mixed])
        counts = torch.tensor([sample.num_scored for sample in said])
        share = (losses.detach() / counts).repeat_interleave(counts)
        zero = losses.new_zeros(())
        groups = torch.full_like(batch.batch.input_ids, -1)
        return ForwardLoss(losses.sum(), zero, zero, share, (), groups)

    def scores(
        self, model: OmniModel, embeddings: Float[Tensor, "*places hidden"]
    ) -> Float[Tensor, "*places classes"]:
        """Of "nothing new" and of every token of the vocabulary, in this order."""
        # One row for all media: it is the placeholder of sound where the model hears.
        special = model.config.special_tokens
        blank = special.image_pad if special.audio_pad is None else special.audio_pad
        assert blank is not None  # a model with an encoder has its placeholder
        rows = torch.cat([torch.tensor([blank]), self._token_ids])
        table = model.core.embed_tokens.weight[rows].detach()
        offsets = table.float().square().sum(-1) / 2
        return SHARPNESS * (functional.linear(embeddings.to(table.dtype), table) - offsets)

    def _embeddings(
        self, model: OmniModel, batch: TrainBatch, said: list[_Said]
    ) -> list[Float[Tensor, "steps hidden"]]:
        """Of every sample, in the order of the rows."""
        inputs = batch.batch
        with model.core_precision():
            found = [
                encoder.connect(states).flatten(0, 1)
                for encoder, states in (
                    (model.vision, inputs.image_states),
                    (model.audio, inputs.audio_states),
                )
                if encoder is not None and states is not None
            ]
        if len(found) != 1 or len(found[0]) != sum(sample.num_steps for sample in said):
            raise TrainingError(
                "alignment takes batches of pictures, or of sounds, each sample with one or more; "
                f"this one has {sum(sample.num_steps == 0 for sample in said)} samples without. "
                "Align one kind of media a stage"
            )
        return list(torch.split(found[0], [sample.num_steps for sample in said]))

    def _said(self, model: OmniModel, batch: TrainBatch) -> list[_Said]:
        inputs, special = batch.batch, model.config.special_tokens
        assert inputs.labels is not None
        scored = functional.pad(scored_tokens(inputs.labels, inputs.attention_mask), (1, 0))
        found = []
        for row, ids in enumerate(inputs.input_ids):
            for number in range(1, int(inputs.attention_mask[row].max()) + 1):
                own = inputs.attention_mask[row] == number
                task = batch.task_names[int(batch.tasks[row][own][0])]
                answer = ids[own & scored[row]]
                is_ordered = task in ORDERED_TASKS
                targets = self._classes(answer[answer != special.end_of_turn], is_ordered)
                is_step = (ids == special.audio_pad) | (ids == special.image_pad)
                num_steps = int((own & is_step).sum())
                found.append(_Said(targets, num_steps, len(answer), is_ordered))
        return found

    def _classes(self, words: Int[Tensor, " words"], is_ordered: bool) -> Int[Tensor, " known"]:
        if not is_ordered:
            telling = [word for word in words.tolist() if word in self._mixture]
            words = torch.tensor(telling, dtype=torch.int64)
        places = torch.searchsorted(self._token_ids, words)
        is_known = self._token_ids[places.clamp(max=len(self._token_ids) - 1)] == words
        if not bool(is_known.all()):
            raise TrainingError(
                "an answer to be read in order holds tokens that the vocabulary lacks; "
                "make it of the tokens of all sources"
            )
        return places + 1


def _in_order(
    scores: Float[Tensor, "steps samples classes"], said: list[_Said]
) -> Float[Tensor, " samples"]:
    """CTC."""
    return functional.ctc_loss(
        scores,
        torch.cat([sample.targets for sample in said]),
        torch.tensor([sample.num_steps for sample in said]),
        torch.tensor([len(sample.targets) for sample in said]),
        blank=_BLANK,
        reduction="none",
        zero_infinity=True,  # said faster than embeddings come: nothing can be learned of it
    )


def _as_mixture(
    scores: Float[Tensor, "steps samples classes"], said: list[_Said]
) -> Float[Tensor, " samples"]:
    """Minus the summed log probabilities that an embedding drawn at random says each word."""
    losses = []
    for number, sample in enumerate(said):
        own = scores[: sample.num_steps, number]
        likely = own[:, sample.targets].logsumexp(0) - torch.tensor(float(len(own))).log()
        losses.append(-likely.sum())
    return torch.stack(losses)


def answer_tokens(sources: Iterable[SampleSource], *, max_share: float = 1.0) -> set[int]:
    """Tokens that occur in answers of some sources.

    Args:
        sources: whose answers.
        max_share: leave out what occurs in a larger share of a source's samples ("A", "Yes", "."):
            it tells nothing of a medium.
    """
    found: set[int] = set()
    for source in sources:
        uses: Counter[int] = Counter()
        num_samples = len(source.lengths)
        for index in range(num_samples):
            labels = source[index].sample.labels
            assert labels is not None
            uses.update(set(labels[labels >= 0].tolist()))
        found.update(token for token, number in uses.items() if number <= max_share * num_samples)
    return found
