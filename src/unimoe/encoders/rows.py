"""Run an encoder over a batch of media: each distinct row once, a few rows at a time.

In:  rows [rows, ...], tiles or clips of any number of prompts.
Out: features [rows, tokens, hidden].
A picture that stands in every prompt of a batch is encoded once. Without gradients, memory is
bounded by the chunk, not by the length of a video.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class DistinctRows(NamedTuple):
    """Rows without repetition."""

    first: list[int]
    """Index of the first occurrence of every distinct row."""
    source: list[int]
    """For every row, its place in `first`."""


def encode_rows(
    encode: Callable[[Tensor], Tensor], rows: Float[Tensor, "rows ..."], *, rows_per_chunk: int
) -> Float[Tensor, "rows tokens hidden"]:
    """Features of every row, from as few and as small calls of the encoder as it takes.

    Args:
        encode: features of some rows; those of one row must not depend on the others.
        rows: tiles or clips.
        rows_per_chunk: most rows of one call.
    """
    distinct = distinct_rows(rows)
    repeats = len(distinct.first) < len(rows)
    chosen = rows[distinct.first] if repeats else rows
    features = torch.cat([encode(chunk) for chunk in torch.split(chosen, rows_per_chunk)])
    return features[distinct.source] if repeats else features


def distinct_rows(rows: Float[Tensor, "rows ..."]) -> DistinctRows:
    """Which rows are equal in every value."""
    first: list[int] = []
    source: list[int] = []
    seen: dict[int, list[int]] = {}  # checksum to places in `first`
    for row, checksum in enumerate(_checksums(rows).tolist()):
        places = seen.setdefault(checksum, [])
        place = next((p for p in places if torch.equal(rows[first[p]], rows[row])), None)
        if place is None:
            place = len(first)
            places.append(place)
            first.append(row)
        source.append(place)
    return DistinctRows(first, source)


def _checksums(rows: Float[Tensor, "rows ..."]) -> Int[Tensor, " rows"]:
    """Sums of the values' bits: whole numbers, so that equal rows have equal sums exactly."""
    return rows.flatten(1).contiguous().view(_BITS[rows.element_size()]).sum(1)
