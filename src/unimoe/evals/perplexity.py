"""Plain text: how much worse does the model read than the dense model it was made of?

In:  texts, the model, its dense base.  Out: `PerplexityRatio`; 1 is no loss.
Texts stand alone, without the form of a chat; the first token of each has nothing to be told by,
so it is not scored.
Axes: batch = texts of similar length, seq = their tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn import functional

from unimoe.errors import DataError
from unimoe.evals.intervals import Interval, bootstrap_ratio
from unimoe.model.omni import OmniModel

_BATCH_TOKENS = 512  # of logits: 100 MB for a vocabulary of 49,152
_IGNORED = -100


@dataclass(frozen=True, kw_only=True, slots=True)
class TextScores:
    """What a model makes of texts."""

    nats: tuple[float, ...]
    """Of each text: summed surprise of its tokens but the first."""
    num_tokens: tuple[int, ...]
    """Scored ones of each."""

    @property
    def perplexity(self) -> float:
        """Over all tokens."""
        return exp(sum(self.nats) / sum(self.num_tokens))


@dataclass(frozen=True, kw_only=True, slots=True)
class PerplexityRatio:
    """The model against its base."""

    ratio: float
    interval: Interval
    """95 %, drawing whole texts."""
    perplexity: float
    base_perplexity: float
    num_texts: int
    num_tokens: int


def score_texts(
    model: OmniModel, texts: Sequence[Sequence[int]], *, top_p_routing: float | None = None
) -> TextScores:
    """Surprise of every text.

    Args:
        model: in evaluation mode.
        texts: token ids.
        top_p_routing: routing threshold in place of the checkpoint's.

    Raises:
        DataError: a text has fewer than two tokens, or there is none.
    """
    if not texts or min(map(len, texts)) < 2:
        raise DataError(f"{len(texts)} texts; need some, of two tokens or more each")
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    nats = [0.0] * len(texts)
    while order:
        longest = len(texts[order[-1]])
        num_rows = max(1, _BATCH_TOKENS // longest)
        places, order = order[-num_rows:], order[:-num_rows]
        ids, mask = _padded([texts[place] for place in places])
        for place, value in zip(places, _nats(model, ids, mask, top_p_routing), strict=True):
            nats[place] = value
    return TextScores(nats=tuple(nats), num_tokens=tuple(len(text) - 1 for text in texts))


def perplexity_ratio(ours: TextScores, base: TextScores) -> PerplexityRatio:
    """Compare two models on the same texts.

    Raises:
        DataError: the texts are not the same.
    """
    if ours.num_tokens != base.num_tokens:
        raise DataError("the two models scored different texts; score the same ones")
    more = [a - b for a, b in zip(ours.nats, base.nats, strict=True)]
    low, high = bootstrap_ratio(more, ours.num_tokens)
    return PerplexityRatio(
        ratio=ours.perplexity / base.perplexity,
        interval=Interval(exp(low), exp(high)),
        perplexity=ours.perplexity,
        base_perplexity=base.perplexity,
        num_texts=len(ours.nats),
        num_tokens=sum(ours.num_tokens),
    )


def _nats(
    model: OmniModel,
    ids: Int64[Tensor, "batch seq"],
    mask: Int64[Tensor, "batch seq"],
    top_p_routing: float | None,
) -> list[float]:
    device = model.device
    with torch.inference_mode():
        logits = model(
            ids.to(device), attention_mask=mask.to(device), top_p_routing=top_p_routing
        ).logits
        targets = ids.masked_fill(mask == 0, _IGNORED)[:, 1:].to(device)
        surprise = functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1),
            targets.flatten(),
            ignore_index=_IGNORED,
            reduction="none",
        )
        sums: list[float] = surprise.view_as(targets).double().sum(1).tolist()
    return sums


def _padded(
    texts: Sequence[Sequence[int]],
) -> tuple[Int64[Tensor, "batch seq"], Int64[Tensor, "batch seq"]]:
    """Ids filled with zeros on the right, and the mask that tells so."""
    ids = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
    return ids, mask
