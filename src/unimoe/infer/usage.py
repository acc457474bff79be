"""What a request cost: tokens by modality, experts, seconds.

In:  the routing of every forward pass.  Out: one `Usage` a request, with its speech if it spoke.
The counts stay on the device until somebody asks for them.
Axes: rows = requests of the batch, live = those still running, columns = routed | null | shared.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from unimoe.config import RouterConfig
from unimoe.nn.router import Routing

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(kw_only=True, slots=True)
class SpeechUsage:
    """What was said aloud, and what it cost."""

    seconds: float = 0.0
    """Of sound."""
    num_codes: int = 0
    """Of the sentences as they are heard."""
    num_sentences: int = 0
    num_regenerated: int = 0
    """Sentences that were written more than once, since they looped, fell silent or broke off."""
    compute_seconds: float = 0.0
    """Spent on writing codes and on their sound, all attempts together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """The bill of one request."""

    prompt_tokens: dict[str, int]
    """Of the prompt, by what they stand for: text, image, video, audio."""
    new_tokens: int
    """Tokens generated, the one that ended the answer included."""
    experts_per_token: float | None
    """Routed experts a token took in an MoE layer, null ones not counted; None: a dense model."""
    null_share: float | None
    """Share of null experts among the dynamic ones taken; None: a dense model."""
    prefill_seconds: float
    """Encoders and prompt, up to the first token."""
    decode_seconds: float
    """All further tokens."""
    finish_reason: FinishReason | None
    """`stop`: a stop token or string; `length`: `max_new_tokens`; `cancelled`: given up early.
    None: it goes on."""
    seed: int
    """Gives the same tokens again."""
    speech: SpeechUsage | None = None
    """None: the answer was not spoken."""


class ExpertUse(NamedTuple):
    """Means over the tokens and MoE layers of one row."""

    experts_per_token: float
    null_share: float


class RoutingTally:
    """Counts, row by row, which dynamic experts the tokens of a batch took."""

    def __init__(self, num_rows: int, router: RouterConfig, device: torch.device) -> None:
        self._router = router
        self._taken = torch.zeros(num_rows, router.num_dynamic, dtype=torch.int64, device=device)
        self._num_visits = [0] * num_rows  # token visits of an MoE layer

    def add(self, routing: tuple[Routing, ...], live: list[int], num_tokens: list[int]) -> None:
        """Count one forward pass.

        Args:
            routing: of every MoE layer, its tokens row by row.
            live: which row of the batch each row of this pass is.
            num_tokens: real tokens, padding not counted, of each row of this pass.
        """
        dynamic = slice(0, self._router.num_dynamic)
        device = self._taken.device
        masks = torch.stack([layer.mask[:, dynamic].to(device) for layer in routing])
        # [layers, live * tokens, dynamic]
        by_row = masks.reshape(len(routing), len(live), -1, masks.shape[-1]).sum((0, 2))
        self._taken[live] += by_row
        for row, count in zip(live, num_tokens, strict=True):
            self._num_visits[row] += count * len(routing)

    def expert_use(self, row: int) -> ExpertUse:
        """The means of one row so far."""
        taken = self._taken[row].tolist()
        num_routed = sum(taken[: self._router.num_routed])
        return ExpertUse(
            experts_per_token=num_routed / max(self._num_visits[row], 1),
            null_share=1 - num_routed / max(sum(taken), 1),
        )
