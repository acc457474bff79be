"""Soft words: what is seen or heard, as mixtures of the core's own word embeddings.

In:  embeddings of a connector [*places, hidden], the embedding table [vocab, hidden].
Out: [*places, hidden], each the mean of the words it is near to, by how near it is:

    score(p, word) = sharpness * (p . e - |e|^2 / 2)  =  -sharpness / 2 |p - e|^2 + const
    out(p)         = sum over words of softmax(score)(word) * e

A core that was trained on text alone reads some of these at once; the connector's own embeddings,
of any length and direction, it first has to learn (docs/log.md).
Source: ours, for mini (docs/architecture.md); paper 2.2 has the connector's embeddings as they are.
Axes: places = tiles or clips and their tokens, words = those that may be said.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

SHARPNESS = 0.7
"""Learned freely it settled here on SmolLM2's table, whose rows have norms near 2.7. Embeddings may
be of any length: fixed to that of the rows they learn more slowly, whatever the sharpness."""


class SoftWords(nn.Module):
    """Knows which words may be said: a new one all, one that was aligned those it was aligned with.

    Rows of other words would draw embeddings too, since alignment never told them apart.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.spoken = nn.Parameter(torch.ones(vocab_size), requires_grad=False)
        """1 for a word that may be said, 0 for others."""

    @property
    def token_ids(self) -> Int[Tensor, " words"]:
        """The words, in rising order."""
        return self.spoken.nonzero()[:, 0]

    def limit_to(self, token_ids: Iterable[int]) -> None:
        """Let these be said, and no others."""
        chosen = torch.tensor(sorted(set(token_ids)), device=self.spoken.device)
        self.spoken.data.zero_().index_fill_(0, chosen, 1.0)

    def scores(
        self, embeddings: Float[Tensor, "*places hidden"], table: Float[Tensor, "vocab hidden"]
    ) -> Float[Tensor, "*places words"]:
        """Of every word; in float32, where half a unit of a score does not get lost."""
        return _scores(embeddings, self._rows(table))

    def forward(
        self, embeddings: Float[Tensor, "*places hidden"], table: Float[Tensor, "vocab hidden"]
    ) -> Float[Tensor, "*places hidden"]:
        """The mixtures, in float32."""
        rows = self._rows(table)
        chances = _scores(embeddings, rows).softmax(-1)
        with torch.autocast(embeddings.device.type, enabled=False):
            return chances @ rows

    def _rows(self, table: Float[Tensor, "vocab hidden"]) -> Float[Tensor, "words hidden"]:
        return table[self.token_ids].detach().float()


def _scores(
    embeddings: Float[Tensor, "*places hidden"], rows: Float[Tensor, "words hidden"]
) -> Float[Tensor, "*places words"]:
    with torch.autocast(embeddings.device.type, enabled=False):
        products = functional.linear(embeddings.float(), rows)
        return SHARPNESS * (products - rows.square().sum(-1) / 2)
