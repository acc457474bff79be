"""Alignment: what is seen and heard learns to be the word embeddings of what is said of it.

In:  packed rows, each sample one kind of media and what is said of it.  Out: `ForwardLoss`.
The language core is not run.  Every embedding of a medium scores the words of its encoder by its
distance to their rows of the embedding table (`encoders/soft_words.py`).
Where places or moments are told of, every embedding that shows one is to draw each of its words as
often, and those that show none the placeholder, for "nothing new". Letters are told at points, each
once: their loss sums over all ways to give each to one of the embeddings around it, in order.
Speech is an answer in order: there CTC sums over all ways to spread it over the embeddings.
So a trained connector speaks the core's own language before the core has seen or heard anything.
Source: connectionist temporal classification (docs/sources.md#alignment).
Axes: samples = of all rows, steps = embeddings of the longest, scored = answer tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from unimoe.config import SpecialTokens
from unimoe.encoders.audio import AudioEncoder
from unimoe.encoders.soft_words import SoftWords
from unimoe.encoders.vision import VisionEncoder
from unimoe.errors import TrainingError
from unimoe.model.loss import scored_tokens
from unimoe.model.omni import OmniModel
from unimoe.train.batches import SampleSource, Told, TrainBatch
from unimoe.train.losses import ForwardLoss

BLANK_WEIGHT = 0.3
"""Of an embedding that shows nothing: in most pictures these are many."""
MASKED_SHARE = 1 / 8
"""Of a medium's states while it learns; 20,000 sentences are soon known by heart otherwise."""
MASKED_RUN = 4
"""States that are masked together; single ones are told by their neighbours."""
_GAINS, _MOST_SHIFT = (0.6, 1.3), 0.5
"""Of pixels, which have a mean near 0 and a deviation near 1."""
_IMPOSSIBLE = -1e6
"""Nats; finite, so that what is impossible has a gradient, of zero."""


class _Once(NamedTuple):
    """What is said once each, in order."""

    classes: Int[Tensor, " points"]
    is_near: Bool[Tensor, "points steps"]
    """Which embeddings may say it."""


class _Said(NamedTuple):
    """What is said of the media of one sample, in one of three ways.

    In none of a picture of which nothing is told.
    """

    in_order: Int[Tensor, " tokens"] | None
    """Classes of a sound's answer."""
    in_place: Float[Tensor, "steps classes"] | None
    """The chance of every class at every embedding."""
    once: _Once | None
    num_steps: int
    """Embeddings."""
    num_scored: int
    """Answer tokens."""


class WordAlignment:
    """The objective; the encoder's words are all that is told in place or said in order.

    `let_speak` sees to it.
    """

    def __call__(self, model: OmniModel, batch: TrainBatch, *, with_z: bool) -> ForwardLoss:
        """The loss of every sample, spread evenly over its answer tokens.

        In order: nats of the whole answer. In place: nats from the wanted chances, of all its
        embeddings together. Once: nats of all its embeddings together.

        Raises:
            TrainingError: something said is not among the encoder's words, a sample has not
                exactly one kind of media, as states of its tower, or what is told of it once is
                more than a token or beside what is told otherwise.
        """
        encoder, states = _heard_or_seen(model, batch)
        with model.core_precision():
            embeddings = encoder.connect(_masked(states, encoder)).flatten(0, 1)
        if encoder.words is None:
            raise TrainingError("alignment is with words; the encoder's config has no speaks_words")
        vocabulary = _Vocabulary(encoder.words.token_ids, model.config.special_tokens)
        said = vocabulary.said(batch)
        num_steps = [sample.num_steps for sample in said]
        if sum(num_steps) != len(embeddings) or 0 in num_steps:
            raise _one_kind_error(f"{num_steps.count(0)} samples without")
        steps = pad_sequence(list(torch.split(embeddings, num_steps)))  # [steps, samples, hidden]
        scores = encoder.words.scores(steps, model.core.embed_tokens.weight).log_softmax(-1)
        blank = vocabulary.blank
        losses = scores.new_zeros(len(said))
        ordered = [n for n, sample in enumerate(said) if sample.in_order is not None]
        if ordered:
            losses[ordered] = _in_order(scores[:, ordered], [said[n] for n in ordered], blank)
        placed = [n for n, sample in enumerate(said) if sample.in_place is not None]
        if placed:
            losses[placed] = _in_place(scores[:, placed], [said[n] for n in placed], blank)
        pointed = [n for n, sample in enumerate(said) if sample.once is not None]
        if pointed:
            losses[pointed] = _once(scores[:, pointed], [said[n] for n in pointed], blank)
        counts = torch.tensor([sample.num_scored for sample in said])
        share = (losses.detach() / counts).repeat_interleave(counts)
        zero = losses.new_zeros(())
        groups = torch.full_like(batch.batch.input_ids, -1)
        return ForwardLoss(losses.sum(), zero, zero, share, (), groups)


def _heard_or_seen(
    model: OmniModel, batch: TrainBatch
) -> tuple[VisionEncoder | AudioEncoder, Float[Tensor, "media steps width"]]:
    """The encoder of the batch's media, and their states."""
    inputs = batch.batch
    found = [
        (encoder, states)
        for encoder, states in (
            (model.vision, inputs.image_states),
            (model.audio, inputs.audio_states),
        )
        if encoder is not None and states is not None
    ]
    if len(found) != 1:
        raise _one_kind_error("both kinds, or neither")
    return found[0]


def _one_kind_error(found: str) -> TrainingError:
    return TrainingError(
        "alignment takes batches of pictures, or of sounds, each sample with one or more; "
        f"this one has {found}. Align one kind of media a stage"
    )


class _Vocabulary(NamedTuple):
    """The words of an encoder, as classes: places among them."""

    token_ids: Int[Tensor, " words"]
    special: SpecialTokens

    @property
    def blank(self) -> int:
        """Class of "nothing new"."""
        return int(torch.searchsorted(self.token_ids, blank_token(self.special)))

    def said(self, batch: TrainBatch) -> list[_Said]:
        """What is said of the media of every sample."""
        inputs, special = batch.batch, self.special
        assert inputs.labels is not None
        scored = functional.pad(scored_tokens(inputs.labels, inputs.attention_mask), (1, 0))
        found = []
        told = iter(batch.told)
        for row, ids in enumerate(inputs.input_ids):
            for number in range(1, int(inputs.attention_mask[row].max()) + 1):
                own = inputs.attention_mask[row] == number
                answer = ids[own & scored[row]]
                is_step = (ids == special.audio_pad) | (ids == special.image_pad)
                in_order = in_place = once = None
                of_sample = next(told)
                if any(each.is_once for each in of_sample):
                    once = self._once(is_step[own], of_sample)
                elif of_sample:
                    in_place = self._chances(is_step[own], of_sample)
                elif bool((ids[own] == special.audio_pad).any()):
                    in_order = self._classes(answer[answer != special.end_of_turn])
                num_steps = int((own & is_step).sum())
                found.append(_Said(in_order, in_place, once, num_steps, len(answer)))
        return found

    def _once(self, is_step: Bool[Tensor, " seq"], told: Sequence[Told]) -> _Once:
        """Which embeddings may say what.

        Raises:
            TrainingError: it is not a token each, or something is told otherwise.
        """
        for each in told:
            if not each.is_once or len(each.token_ids) != 1:
                raise TrainingError(
                    f"{len(each.token_ids)} tokens told of a place, beside others told at points; "
                    "tell a token of each point, and nothing else of such a picture"
                )
        step_of = is_step.cumsum(0) - 1
        is_near = torch.zeros(len(told), int(is_step.sum()), dtype=torch.bool)
        for point, each in enumerate(told):
            is_near[point, step_of[each.positions]] = True
        return _Once(self._classes(torch.tensor([each.token_ids[0] for each in told])), is_near)

    def _chances(
        self, is_step: Bool[Tensor, " seq"], told: Sequence[Told]
    ) -> Float[Tensor, "steps classes"]:
        """Every word told of an embedding as often as the others; of nothing, the blank."""
        step_of = is_step.cumsum(0) - 1
        counts = torch.zeros(int(is_step.sum()), len(self.token_ids))
        for positions, token_ids, _ in told:
            steps = step_of[positions]
            for place in self._classes(torch.tensor(token_ids)).tolist():
                counts[steps, place] += 1
        counts[counts.sum(-1) == 0, self.blank] = 1
        return counts / counts.sum(-1, keepdim=True)

    def _classes(self, words: Int[Tensor, " words"]) -> Int[Tensor, " words"]:
        places = torch.searchsorted(self.token_ids, words)
        is_known = self.token_ids[places.clamp(max=len(self.token_ids) - 1)] == words
        if not bool(is_known.all()):
            raise TrainingError(
                "something said holds tokens that the encoder's words lack; let it speak those of "
                "all sources"
            )
        return places


def _masked(
    states: Float[Tensor, "media steps width"], encoder: VisionEncoder | AudioEncoder
) -> Float[Tensor, "media steps width"]:
    """While learning, without some runs of states: what is missing is to be told by the others.

    The pixels of a picture stay, since a letter that is not seen is told by nothing else, but half
    of the pictures have them in other colours.
    """
    if not torch.is_grad_enabled():
        return states
    media, steps, width = states.shape
    described = encoder.config.described_width if isinstance(encoder, VisionEncoder) else width
    is_kept = torch.rand(media, -(-steps // MASKED_RUN)) >= MASKED_SHARE
    kept = states[..., :described] * is_kept.repeat_interleave(MASKED_RUN, dim=1)[:, :steps, None]
    return torch.cat([kept, _recoloured(states[..., described:])], dim=-1)


def _recoloured(
    pixels: Float[Tensor, "media steps values"],
) -> Float[Tensor, "media steps values"]:
    """Half of the pictures with their channels in another order, lighter or darker, some inverted.

    Strokes stay what they are; colours are told by what else is known of a patch.
    """
    media, steps, values = pixels.shape
    if values == 0:
        return pixels
    orders = torch.rand(media, 3).argsort(-1)
    signs = torch.where(torch.rand(media, 1, 1) < 1 / 2, -1.0, 1.0)
    gains = signs * torch.empty(media, 1, 1).uniform_(*_GAINS)
    shifts = torch.empty(media, 1, 1).uniform_(-_MOST_SHIFT, _MOST_SHIFT)
    channels = pixels.view(media, steps, 3, values // 3)
    reordered = channels.gather(2, orders[:, None, :, None].expand_as(channels)).view_as(pixels)
    return torch.where(torch.rand(media, 1, 1) < 1 / 2, pixels, gains * reordered + shifts)


def _in_order(
    scores: Float[Tensor, "steps samples classes"], said: Sequence[_Said], blank: int
) -> Float[Tensor, " samples"]:
    """CTC."""
    targets = [sample.in_order for sample in said if sample.in_order is not None]
    return functional.ctc_loss(
        scores,
        torch.cat(targets),
        torch.tensor([sample.num_steps for sample in said]),
        torch.tensor([len(each) for each in targets]),
        blank=blank,
        reduction="none",
        zero_infinity=True,  # said faster than embeddings come: nothing can be learned of it
    )


def _in_place(
    scores: Float[Tensor, "steps samples classes"], said: Sequence[_Said], blank: int
) -> Float[Tensor, " samples"]:
    """Divergence of the chances of words from the wanted ones."""
    losses = []
    for number, sample in enumerate(said):
        assert sample.in_place is not None
        own = scores[: sample.num_steps, number]
        divergence = functional.kl_div(own, sample.in_place, reduction="none").sum(-1)
        weights = 1 - (1 - BLANK_WEIGHT) * sample.in_place[:, blank]
        losses.append((weights * divergence).sum())
    return torch.stack(losses)


def _once(
    scores: Float[Tensor, "steps samples classes"], said: Sequence[_Said], blank: int
) -> Float[Tensor, " samples"]:
    """As CTC, but nothing is said twice, and each by one of the embeddings near its point.

    Over the chance that all say nothing, a way to say all is worth the product of what each that
    speaks gains; `worth[n]` is the logarithm of the sum over all ways to say the first n.
    """
    num_points = [len(sample.once.classes) for sample in said if sample.once is not None]
    silences, all_gains = [], []
    for number, sample in enumerate(said):
        assert sample.once is not None
        own = scores[: sample.num_steps, number]
        silences.append(own[:, blank].sum())
        gains = own[:, sample.once.classes] - own[:, [blank]]
        gains = gains.masked_fill(~sample.once.is_near.T, _IMPOSSIBLE)
        padding = (0, max(num_points) - len(sample.once.classes), 0, len(scores) - len(own))
        all_gains.append(functional.pad(gains, padding, value=_IMPOSSIBLE))
    worth = scores.new_full((len(said), 1 + max(num_points)), _IMPOSSIBLE)
    worth[:, 0] = 0.0
    for gain in torch.stack(all_gains, dim=1):  # [samples, points] of every step
        so_far = worth[:, 1:]
        worth = torch.cat([worth[:, :1], torch.logaddexp(so_far, worth[:, :-1] + gain)], dim=1)
    of_all = worth.gather(1, torch.tensor(num_points)[:, None])[:, 0]
    # Closer together than embeddings come: nothing can be learned of it.
    return torch.where(of_all > _IMPOSSIBLE / 2, -torch.stack(silences) - of_all, 0.0)


def blank_token(special: SpecialTokens) -> int:
    """What an embedding says that has nothing new to say.

    One placeholder for all media: that of sound where the model hears.
    """
    blank = special.image_pad if special.audio_pad is None else special.audio_pad
    assert blank is not None  # a model with an encoder has its placeholder
    return blank


def let_speak(
    words: SoftWords,
    sources: Iterable[SampleSource],
    special: SpecialTokens,
    *,
    known: Iterable[int] = (),
) -> None:
    """Let an encoder say what is told or said in these samples, what it knew, and nothing else."""
    words.limit_to({blank_token(special), *known, *words_said(sources)})


def words_said(sources: Iterable[SampleSource]) -> set[int]:
    """Tokens told of samples, and those of answers on sounds of which nothing is told."""
    found: set[int] = set()
    for source in sources:
        for index in range(len(source.lengths)):
            sample = source[index]
            labels = sample.sample.labels
            assert labels is not None
            found.update(token for told in sample.told for token in told.token_ids)
            if not sample.told and sample.sample.audio_states is not None:
                found.update(labels[labels >= 0].tolist())
    return found
