"""The loss of one forward, taken apart: by part, by task, by modality; and where tokens went.

In:  a model, a `TrainBatch`.  Out: `ForwardLoss` with gradients, `Tally` of plain numbers.
Axes: batch = rows, seq = tokens of a row, scored = tokens that are predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unimoe.infer.expert_use import ANSWER, token_groups
from unimoe.model.loss import mean_balance_loss, mean_z_loss, scored_tokens, token_losses
from unimoe.model.omni import OmniModel
from unimoe.nn.router import Routing
from unimoe.train.batches import TrainBatch


class ForwardLoss(NamedTuple):
    """What one forward has to say."""

    text_sum: Float[Tensor, ""]
    """Over the scored tokens: a step divides by all of its own."""
    balance: Float[Tensor, ""]
    z: Float[Tensor, ""]
    token_losses: Float[Tensor, " scored"]
    routing: tuple[Routing, ...]
    groups: Int[Tensor, "batch seq"]
    """Place in `GROUPS` of every token, answers apart; -1 on padding."""


@runtime_checkable
class Objective(Protocol):
    """What a forward is to minimise."""

    def __call__(self, model: OmniModel, batch: TrainBatch, *, with_z: bool) -> ForwardLoss:
        """Run the model over a batch, or as much of it as the objective needs."""
        ...


def num_scored(batch: TrainBatch) -> int:
    """Tokens of a batch that are predicted."""
    assert batch.batch.labels is not None
    return int(scored_tokens(batch.batch.labels, batch.batch.attention_mask).sum())


def forward_loss(model: OmniModel, batch: TrainBatch, *, with_z: bool) -> ForwardLoss:
    """Run the model over a batch."""
    inputs = batch.batch
    assert inputs.labels is not None  # made by `train_batch` of samples with labels
    arguments = inputs.model_inputs()
    labels = arguments.pop("labels")
    output = model(**arguments, logits_rows=0)
    is_scored = scored_tokens(labels, inputs.attention_mask)
    losses = token_losses(output.hidden_states, labels, is_scored, model.core.logits)
    balance = z = losses.new_zeros(())
    if output.routing:
        moe = model.config.core.moe
        assert moe is not None
        balance = mean_balance_loss(output.routing, moe.router, inputs.attention_mask, None)
        if with_z:
            z = mean_z_loss(output.routing, inputs.attention_mask)
    groups = token_groups(inputs.input_ids, inputs.attention_mask, model.config.special_tokens)
    groups = groups.masked_fill(labels >= 0, ANSWER)
    return ForwardLoss(losses.sum(), balance, z, losses.detach(), output.routing, groups)


@dataclass(slots=True)
class _Mean:
    total: float = 0.0
    count: int = 0


@dataclass(slots=True)
class Tally:
    """Sums over the forwards of a step, or of an evaluation."""

    tokens: int = 0
    padding: int = 0
    samples: int = 0
    scored: int = 0
    text_sum: float = 0.0
    taken_routed: int = 0
    taken_null: int = 0
    layer_tokens: int = 0
    tasks: dict[str, _Mean] = field(default_factory=dict)
    modalities: dict[str, _Mean] = field(default_factory=dict)

    def add(self, batch: TrainBatch, loss: ForwardLoss, model: OmniModel) -> None:
        """Count one forward."""
        mask = batch.batch.attention_mask
        assert batch.batch.labels is not None
        is_scored = scored_tokens(batch.batch.labels, mask)
        self.tokens += int((mask > 0).sum())
        self.padding += int((mask == 0).sum())
        self.samples += int(mask.amax(1).sum())
        self.scored += len(loss.token_losses)
        self.text_sum += float(loss.token_losses.double().sum())
        for means, places, names in (
            (self.tasks, batch.tasks, batch.task_names),
            (self.modalities, batch.modalities, batch.modality_names),
        ):
            place = places[:, 1:][is_scored]
            sums = torch.bincount(place, loss.token_losses.double(), minlength=len(names))
            counts = torch.bincount(place, minlength=len(names))
            for name, total, count in zip(names, sums.tolist(), counts.tolist(), strict=True):
                mean = means.setdefault(name, _Mean())
                mean.total += total
                mean.count += count
        self._add_routing(mask, loss.routing, model)

    def state(self) -> dict[str, Any]:
        """The sums as JSON."""
        return asdict(self)

    def join(self, state: Mapping[str, Any]) -> None:
        """Add the sums of another process."""
        for name, value in state.items():
            if not isinstance(value, dict):
                setattr(self, name, getattr(self, name) + value)
                continue
            for key, mean in value.items():
                own = getattr(self, name).setdefault(key, _Mean())
                own.total += mean["total"]
                own.count += mean["count"]

    def _add_routing(
        self, mask: Int[Tensor, "batch seq"], routing: tuple[Routing, ...], model: OmniModel
    ) -> None:
        moe = model.config.core.moe
        if moe is None:
            return
        router, is_real = moe.router, mask.flatten() > 0
        for layer in routing:
            taken = layer.mask[is_real]
            self.taken_routed += int(taken[:, : router.num_routed].sum())
            self.taken_null += int(taken[:, router.num_routed : router.num_dynamic].sum())
            self.layer_tokens += len(taken)

    def record(self) -> dict[str, Any]:
        """The means as JSON."""
        record: dict[str, Any] = {
            "text": self.text_sum / max(self.scored, 1),
            "samples": self.samples,
            "tokens": self.tokens,
            "scored": self.scored,
            "fill": round(self.tokens / max(self.tokens + self.padding, 1), 4),
        }
        if self.layer_tokens:
            dynamic = self.taken_routed + self.taken_null
            record["experts_per_token"] = round(self.taken_routed / self.layer_tokens, 4)
            record["null_share"] = round(self.taken_null / max(dynamic, 1), 4)
        for name, means in (("by_task", self.tasks), ("by_modality", self.modalities)):
            record[name] = {
                key: round(mean.total / mean.count, 5)
                for key, mean in sorted(means.items())
                if mean.count
            }
        return record
