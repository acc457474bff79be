"""Which experts the tokens of every modality take, layer by layer.

In:  the routing of forward passes, and what their tokens stand for.
Out: shares by group of tokens, MoE layer and dynamic column, as one JSON object that evaluations
and training journals both write and `unimoe plot router` draws.
The counts stay on the device until somebody asks for them.
Axes: batch, new = tokens of a pass, layers = MoE layers, columns = routed | null.
"""

from typing import TypedDict

import torch
from jaxtyping import Int
from torch import Tensor

from unimoe.config import RouterConfig, SpecialTokens
from unimoe.nn.router import Routing

GROUPS = ("text", "image", "video", "audio", "answer")
"""What tokens are counted by; `text` is all of a prompt that stands for no feature."""
ANSWER = GROUPS.index("answer")
NOT_COUNTED = -1


class ExpertUseRecord(TypedDict):
    """The JSON form."""

    expert_use: dict[str, list[list[float]]]
    """Group -> layer -> share of its tokens that took each column; groups without tokens are
    left out."""
    columns: list[str]
    """`expert 1`, ..., `null 1`, ..."""
    num_tokens: dict[str, int]


class ExpertUseByGroup:
    """Counts over any number of forward passes."""

    def __init__(self, router: RouterConfig, num_layers: int, device: torch.device) -> None:
        self._router = router
        shape = (len(GROUPS), num_layers, router.num_dynamic)
        self._taken = torch.zeros(shape, dtype=torch.int64, device=device)
        self._num_tokens = torch.zeros(len(GROUPS), dtype=torch.int64, device=device)

    def add(self, routing: tuple[Routing, ...], groups: Int[Tensor, "batch new"]) -> None:
        """Count one forward pass.

        Args:
            routing: of every MoE layer.
            groups: place in `GROUPS` of every token; `NOT_COUNTED` for padding.
        """
        device = self._taken.device
        dynamic = slice(0, self._router.num_dynamic)
        masks = torch.stack([layer.mask[:, dynamic].to(device) for layer in routing])
        flat = groups.flatten().to(device)
        for group in range(len(GROUPS)):
            of_group = flat == group
            self._taken[group] += masks[:, of_group].sum(1)
            self._num_tokens[group] += of_group.sum()

    def record(self) -> ExpertUseRecord:
        """The shares so far."""
        counts = dict(zip(GROUPS, self._num_tokens.tolist(), strict=True))
        shares = self._taken / self._num_tokens.clamp(min=1)[:, None, None]
        rounded = {
            name: [[round(share, 4) for share in layer] for layer in of_group.tolist()]
            for name, of_group in zip(GROUPS, shares, strict=True)
            if counts[name]
        }
        router = self._router
        columns = [f"expert {place + 1}" for place in range(router.num_routed)]
        columns += [f"null {place + 1}" for place in range(router.num_null)]
        present = {name: count for name, count in counts.items() if count}
        return {"expert_use": rounded, "columns": columns, "num_tokens": present}


def token_groups(
    input_ids: Int[Tensor, "batch new"],
    attention_mask: Int[Tensor, "batch new"],
    special: SpecialTokens,
) -> Int[Tensor, "batch new"]:
    """Group of every token of a prompt, by its placeholders."""
    groups = torch.zeros_like(input_ids)
    for name in ("image", "video", "audio"):
        pad = getattr(special, f"{name}_pad")
        if pad is not None:
            groups[input_ids == pad] = GROUPS.index(name)
    return groups.masked_fill(attention_mask == 0, NOT_COUNTED)
