"""Naming drawings by their features, and how far two sets of drawings are apart.

In:  features [drawings, width] of real drawings with their names.  Out: names of other drawings; a
Frechet distance.
Source: ridge regression onto one indicator a name; Frechet inception distance
(docs/sources.md#drawing-scores).
Axes: drawings, width = features, names = in alphabetical order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

RIDGE = 0.1
"""Of the mean squared length of a drawing's normalised features."""
COMPONENTS = 32
"""Directions in which real drawings differ most: full covariances would need more drawings."""


class NameJudge:
    """A linear classifier, fitted at once."""

    def __init__(self, features: Float[Tensor, "drawings width"], names: Sequence[str]) -> None:
        """Fit it to real drawings, one or more a name."""
        self.names = sorted(set(names))
        self._mean, self._std = features.mean(0), features.std(0).clamp_min(1e-6)
        rows = self._normal(features)
        wanted = torch.zeros(len(rows), len(self.names))
        for row, name in enumerate(names):
            wanted[row, self.names.index(name)] = 1
        kernel = rows @ rows.T
        kernel += RIDGE * kernel.diagonal().mean() * torch.eye(len(rows))
        self._weights = rows.T @ torch.linalg.solve(kernel, wanted)

    def named(self, features: Float[Tensor, "drawings width"]) -> list[str]:
        """The likeliest name of every drawing."""
        scores = self._normal(features) @ self._weights
        return [self.names[place] for place in scores.argmax(1).tolist()]

    def _normal(self, features: Float[Tensor, "drawings width"]) -> Float[Tensor, "drawings width"]:
        return (features - self._mean) / self._std


def frechet_distance(
    drawn: Float[Tensor, "drawn width"], real: Float[Tensor, "real width"]
) -> float:
    """Squared Frechet distance of two normal distributions, in the strongest directions of `real`.

    |m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2)), in squared features.
    """
    mean = real.mean(0)
    directions = torch.linalg.svd(real - mean, full_matrices=False).Vh[:COMPONENTS]
    first, second = ((values - mean).double() @ directions.T.double() for values in (drawn, real))
    one, other = torch.cov(first.T), torch.cov(second.T)
    root = _square_root(one)
    between = _square_root(root @ other @ root)
    apart = (first.mean(0) - second.mean(0)).square().sum()
    return float(apart + torch.trace(one + other - 2 * between))


def _square_root(matrix: Float[Tensor, "width width"]) -> Float[Tensor, "width width"]:
    """Of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    root: Tensor = vectors * values.clamp_min(0).sqrt() @ vectors.T
    return root
