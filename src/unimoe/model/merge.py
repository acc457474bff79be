"""Media into the sequence: features of tiles and clips over the placeholders that wait for them.

In:  text embeddings [batch, new, hidden], token ids [batch, new], tiles or clips [rows, ...].
Out: embeddings [batch, new, hidden].
Source: released inputs (docs/sources.md#merge).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unimoe.errors import RequestError


class Medium(NamedTuple):
    """All media of one kind in a batch."""

    name: str
    placeholder: int | None
    """Token that holds the place of one feature; None: the checkpoint has none."""
    encode: Callable[[Tensor], Tensor] | None
    """From signals, or from states if these are given, to what the core reads; None: the model has
    no encoder."""
    signals: Float[Tensor, "rows ..."] | None
    """Tiles or clips; None: the batch has none."""
    states: Float[Tensor, "rows steps width"] | None
    """What the encoder's tower made of them before; given instead of the signals."""
    tokens_per_row: int


def merge(
    embeds: Float[Tensor, "batch new hidden"], input_ids: Int[Tensor, "batch new"], medium: Medium
) -> Float[Tensor, "batch new hidden"]:
    """The embeddings with one kind of media in its places, in order.

    Raises:
        RequestError: places and features differ in number, signals and states are both given, or
            the model lacks the encoder.
    """
    if medium.signals is not None and medium.states is not None:
        raise RequestError(
            f"{medium.name} comes both as signals and as states of the tower; give one of them"
        )
    rows = medium.states if medium.signals is None else medium.signals
    if rows is None and medium.placeholder is None:
        return embeds
    if medium.placeholder is None or (rows is not None and medium.encode is None):
        raise RequestError(
            f"the prompt brings {medium.name} input, but this model has no "
            f"{'placeholder token' if medium.placeholder is None else 'encoder'} for it; "
            f"leave it out"
        )
    places = torch.eq(input_ids, medium.placeholder)
    num_places = int(places.sum())
    num_features = 0 if rows is None else len(rows) * medium.tokens_per_row
    if num_places != num_features:
        raise RequestError(
            f"{medium.name}: {num_places} placeholder tokens in the prompt, but {num_features} "
            f"features to put there; write one placeholder a feature"
        )
    if rows is None or medium.encode is None:
        return embeds
    features = medium.encode(rows).to(embeds.dtype)
    return embeds.masked_scatter(places.unsqueeze(-1), features)
