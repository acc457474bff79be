"""Places: a learned vector for every row and every column of a tile, added to its tokens.

In:  embeddings [tiles, tokens, hidden], row by row.  Out: the same, each with its place.
Soft words say what a token shows, not where it stands, and a core that was trained on text alone
has no use for a rotary angle that tells rows from columns: what is left of what it guesses from the
order of the tokens, in which a step up and a step to the left look alike.
Source: ours, for mini (docs/architecture.md); paper 2.3.1 has the rotary angle alone.
Axes: tokens = down x across of a tile.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Places(nn.Module):
    """Begins as nothing: a core that knows no places reads what it read before."""

    def __init__(self, down: int, across: int, hidden_size: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(down, hidden_size))
        self.columns = nn.Parameter(torch.zeros(across, hidden_size))

    def forward(
        self, embeddings: Float[Tensor, "tiles tokens hidden"]
    ) -> Float[Tensor, "tiles tokens hidden"]:
        """Every token with the vectors of its row and of its column."""
        places = self.rows.unsqueeze(1) + self.columns
        return embeddings + places.flatten(0, 1).to(embeddings.dtype)
