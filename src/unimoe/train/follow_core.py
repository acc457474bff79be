"""A painter that was taught on one core reads another: by least squares, before any step.

In:  a painter, and states of the same prompts by the core it knows and by the new one.
Out: the painter, whose matrices of states give of the new ones what they gave of the old, as
nearly as a linear map can.
Two trainings of a core say much the same of a prompt, in other directions: a painter that is taught
on from there has to find out once more what every word looks like.
Axes: places = [TASK] and the [IMG] tokens, rows = prompts, or prompts x places.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unimoe.heads.painter import Painter

RIDGE = 0.01
"""A share of the rows, added to the squares of normalised states; ten times as much forgets more of
names in a wording that was not fitted (docs/log.md)."""


@torch.no_grad()
def follow_core(
    painter: Painter,
    former: Float[Tensor, "prompts places core_width"],
    states: Float[Tensor, "prompts places core_width"],
) -> None:
    """Change the painter's statistics and first matrices to those of the new core.

    Args:
        painter: taught on the former core.
        former: what that core says of some prompts, after its final norm.
        states: what the new one says of them.
    """
    known = painter.normalised(former)
    gathered = painter.draft.gather(known.flatten(1))
    content = painter.projector.content(known[:, 1:])
    painter.fit_states(states)
    normal = painter.normalised(states)
    _fit(painter.draft.gather, normal.flatten(1), gathered)
    _fit(painter.projector.content, normal[:, 1:].flatten(0, 1), content.flatten(0, 1))


def _fit(
    linear: nn.Linear, inputs: Float[Tensor, "rows inputs"], wanted: Float[Tensor, "rows outputs"]
) -> None:
    """Ridge regression, with a bias that is free."""
    inputs_mean, wanted_mean = inputs.mean(0), wanted.mean(0)
    centred = inputs - inputs_mean
    squares = (centred.T @ centred).double()
    squares.diagonal().add_(RIDGE * len(inputs))
    weight = torch.linalg.solve(squares, (centred.T @ (wanted - wanted_mean)).double()).T.float()
    linear.weight.copy_(weight)
    linear.bias.copy_(wanted_mean - weight @ inputs_mean)
