"""Dynamic token sampler: the tokens of a source image that matter for a task, chosen in each layer.

In:  source-image tokens [batch, tokens, image_width], task embedding [batch, condition_width].
Out: the best of them by a learned score, projected: [batch, kept, hidden], in the image's order.
The choice is drawn, not only in training: Gumbel noise on the scores, then the top ones; its
gradient is that of the softmax (straight through).  A row of zeros is an absent image: zeros.
Source: PixWizard (docs/sources.md#dit).
Axes: tokens = of the source image, kept <= tokens.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unimoe.config import DiTConfig

TEMPERATURE = 5.0


class TokenSampler(nn.Module):
    """Scores tokens from their own features, the image's mean features and the task."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_kept = config.num_kept_tokens
        self.image_proj = nn.Linear(config.image_width, width, bias=False)
        self.task_proj = nn.Linear(config.condition_width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.features = nn.Sequential(nn.Linear(width, width), nn.GELU())
        self.score = nn.Sequential(
            nn.Linear(width, width // 2),
            nn.GELU(),
            nn.Linear(width // 2, width // 4),
            nn.GELU(),
            nn.Linear(width // 4, 1),
        )

    def forward(
        self,
        image: Float[Tensor, "batch tokens image_width"],
        task: Float[Tensor, "batch condition_width"],
        noise: Float[Tensor, "batch tokens"] | None,
    ) -> Float[Tensor, "batch kept hidden"]:
        """The kept tokens; without noise, those of the highest scores."""
        tokens = self.image_proj(image)
        scores = self._scores(tokens, task).float()  # in bf16 most neighbours would be ties
        if noise is not None:
            scores = scores + noise
        share = (scores / TEMPERATURE).softmax(-1)
        places = kept_places(share, self.num_kept)
        chosen = share.gather(-1, places)
        # Value 1 up to rounding, gradient of the softmax; the order of operations is the release's.
        weight = (1.0 - chosen.detach()) + chosen
        kept = tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
        output: Tensor = kept * weight[..., None].to(kept.dtype)
        return output

    def _scores(
        self,
        tokens: Float[Tensor, "batch tokens hidden"],
        task: Float[Tensor, "batch condition_width"],
    ) -> Float[Tensor, "batch tokens"]:
        """Half of the features stay a token's own, the other half is averaged over the image."""
        features = self.features(self.norm(tokens + self.task_proj(task)[:, None]))
        local, overall = features.tensor_split([features.shape[-1] // 2], dim=-1)
        both = torch.cat([local, overall.mean(1, keepdim=True).expand_as(overall)], dim=-1)
        scores: Tensor = self.score(both).squeeze(-1)
        return scores


def kept_places(share: Float[Tensor, "batch tokens"], num_kept: int) -> Int[Tensor, "batch kept"]:
    """Indices of the largest shares, in rising order.

    >>> kept_places(torch.tensor([[0.1, 0.4, 0.2, 0.3]]), 2)  # doctest: +SKIP
    tensor([[1, 3]])
    """
    return share.topk(num_kept, dim=-1).indices.sort(dim=-1).values
