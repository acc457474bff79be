"""A talker that was taught on one codec writes another's codes: by what was heard at the same time.

In:  a talker, and the codes of the same recordings by the codec it knows and by the new one.
Out: the talker, to which a new code is the mean of the old ones that stood in its place.
A codec that went on learning says the same sounds in other codes: a talker that is taught on from
there has to find out once more which is which (docs/log.md).
"""

import torch
from jaxtyping import Int
from torch import Tensor

from unimoe.heads.moe_tts import MoETTS

PRIOR = 1.0
"""How often a code counts as having stood for itself: what is never heard stays what it was."""


@torch.no_grad()
def follow_codec(
    talker: MoETTS, former: Int[Tensor, " codes"], codes: Int[Tensor, " codes"]
) -> None:
    """Change embeddings and rows of the head to those of the new codes.

    Args:
        talker: taught on the former codec.
        former: what that codec wrote of some recordings.
        codes: what the new one writes of them, place by place.
    """
    num_codes = talker.config.num_codes
    together = torch.eye(num_codes) * PRIOR
    together.index_put_((codes, former), torch.ones(()), accumulate=True)
    shares = together / together.sum(1, keepdim=True)
    for table in (talker.code_embedding.weight, talker.head.weight, talker.head.bias):
        table[:num_codes] = shares @ table[:num_codes]
    # A row that many old ones were mixed into is as likely as its codes are, not as theirs.
    heard, was_heard = together.sum(1).log(), together.sum(0).log()
    talker.head.bias[:num_codes] += heard - shares @ was_heard
