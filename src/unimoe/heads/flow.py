"""Flow matching: learning the straight way from noise to image, and walking it under guidance.

In:  target latents [batch, channels, height, width] to learn from; or the three branches of a
     condition, to draw from.  Out: a loss; or the states of the latents on the way, noise first.
All random numbers are values: made from a seed an image, so that an image depends on its own seed
alone, or given again to repeat them.
Source: PixWizard, released sampler (docs/sources.md#flow).
Axes: branches = prompt and image | image alone | neither; rows = branches x batch, in that order;
tokens = of the source image, layers = of the DiT.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from unimoe.config import GuidanceConfig
from unimoe.heads.dit import Condition, DiT

Method: TypeAlias = Literal["euler", "heun"]
"""Of the steps: Euler's takes one velocity each, Heun's two, at both ends, and their mean."""

NUM_BRANCHES = 3
NUM_IMAGE_BRANCHES = 2
"""The branches that have a source image; the third draws no noise for it."""


class ImageProgress(NamedTuple):
    """How far a picture is."""

    step: int
    """Done, 0 to `num_steps`."""
    num_steps: int


class FlowDraws(NamedTuple):
    """The random numbers of one training forward."""

    times: Float[Tensor, " batch"]
    """0 (noise) to 1 (image)."""
    start: Float[Tensor, "batch channels height width"]
    """The noise at time 0."""
    tokens: Float[Tensor, "layers batch tokens"] | None
    """Gumbel noise of the token samplers; None: the best scores are kept."""


class SamplingDraws(NamedTuple):
    """The random numbers of drawing a batch of images."""

    start: Float[Tensor, "batch channels height width"]
    tokens: Float[Tensor, "steps layers 2 batch tokens"] | None
    """Gumbel noise of the token samplers, for the branches with a source image."""


def draw_flow(
    dit: DiT, target: Float[Tensor, "batch channels height width"], num_tokens: int
) -> FlowDraws:
    """Fresh random numbers from torch's generator of that device; times are uniform."""
    shape = (dit.config.num_layers, len(target), num_tokens)
    return FlowDraws(
        times=torch.rand(len(target), device=target.device),
        start=torch.randn_like(target),
        tokens=_gumbel(torch.empty(shape, device=target.device).exponential_()),
    )


def draw_sampling(
    dit: DiT, seeds: Sequence[int], *, size: tuple[int, int], num_tokens: int, num_steps: int
) -> SamplingDraws:
    """The random numbers of images, each from its own seed; the same on every device.

    Args:
        dit: whose channels and layers count.
        seeds: one an image.
        size: (height, width) of the latents.
        num_tokens: of a source image.
        num_steps: of the Euler method.
    """
    config = dit.config
    starts, tokens = [], []
    for seed in seeds:
        own = torch.Generator().manual_seed(seed)
        starts.append(torch.randn(config.latent_channels, *size, generator=own))
        shape = (num_steps, config.num_layers, NUM_IMAGE_BRANCHES, num_tokens)
        tokens.append(_gumbel(torch.empty(shape).exponential_(generator=own)))
    device = dit.pad_token.device
    return SamplingDraws(torch.stack(starts).to(device), torch.stack(tokens, dim=3).to(device))


def flow_loss(
    dit: DiT,
    target: Float[Tensor, "batch channels height width"],
    condition: Condition,
    draws: FlowDraws,
) -> Float[Tensor, ""]:
    """Mean squared error of the velocity on the linear path x_t = t x_1 + (1 - t) x_0."""
    times = draws.times[:, None, None, None]
    latents = times * target + (1 - times) * draws.start
    predicted = dit(latents, draws.times, condition, noise=draws.tokens)
    return functional.mse_loss(predicted.float(), (target - draws.start).float())


def branch_weights(guidance: GuidanceConfig) -> tuple[float, float, float]:
    """Shares of the branches in a guided velocity; their sum is 1.

    none + image_scale * (image - none) + text_scale * (full - image), by branch:

    >>> branch_weights(GuidanceConfig(text_scale=4.0, image_scale=1.0))
    (4.0, -3.0, 0.0)
    """
    text, image = guidance.text_scale, guidance.image_scale
    return text, image - text, 1 - image


def guided_velocity(
    dit: DiT,
    latents: Float[Tensor, "batch channels height width"],
    time: Float[Tensor, ""],
    branches: Condition,
    noise: Float[Tensor, "layers 2 batch tokens"] | None,
    guidance: GuidanceConfig,
) -> Float[Tensor, "batch channels height width"]:
    """Velocity as guidance mixes it; channels it leaves out have that of the first branch.

    Branches without weight are not run: of the released scales, the third.

    Args:
        dit: the denoiser.
        latents: of the images, one row each.
        time: 0 to 1, the same for all.
        branches: a row for each branch of each image.
        noise: of the token samplers, for the branches with a source image.
        guidance: the scales.
    """
    weights = branch_weights(guidance)
    run = [number for number, weight in enumerate(weights) if number == 0 or weight != 0.0]
    velocities = dit(
        latents.repeat(len(run), 1, 1, 1),
        time.expand(len(run) * len(latents)),
        Condition(*(_chosen(part, run) for part in branches)),
        noise=None if noise is None else _for_rows(noise, run),
        base_tokens=guidance.base_tokens,
    ).unflatten(0, (len(run), len(latents)))
    shares = torch.tensor([weights[number] for number in run], device=latents.device)
    guided, first = guidance.guided_channels, velocities[0]
    mixed = torch.einsum("r,rbchw->bchw", shares, velocities[:, :, :guided].float())
    return torch.cat([mixed.to(first.dtype), first[:, guided:]], dim=1)


def guided_states(
    dit: DiT,
    branches: Condition,
    draws: SamplingDraws,
    guidance: GuidanceConfig,
    method: Method = "euler",
) -> Iterator[Float[Tensor, "batch channels height width"]]:
    """Latents at every point of time, from the noise to the images: `num_steps` + 1 of them."""

    @torch.no_grad()
    def velocity_at(step: int, time: Tensor, latents: Tensor) -> Tensor:
        noise = None if draws.tokens is None else draws.tokens[step]
        return guided_velocity(dit, latents, time, branches, noise, guidance)

    follow = euler_states if method == "euler" else heun_states
    return follow(velocity_at, draws.start, guidance.num_steps)


def euler_states(
    velocity_at: Callable[[int, Tensor, Tensor], Tensor],
    start: Float[Tensor, "*shape"],
    num_steps: int,
) -> Iterator[Float[Tensor, "*shape"]]:
    """Follow a velocity from time 0 to 1 in equal steps of the Euler method.

    Args:
        velocity_at: of (number of the step, time, state).
        start: the first state that is given out.
        num_steps: how many follow.
    """
    times = torch.linspace(0, 1, num_steps + 1, device=start.device)
    state = start
    yield state
    for step in range(num_steps):
        state = state + (times[step + 1] - times[step]) * velocity_at(step, times[step], state)
        yield state


def heun_states(
    velocity_at: Callable[[int, Tensor, Tensor], Tensor],
    start: Float[Tensor, "*shape"],
    num_steps: int,
) -> Iterator[Float[Tensor, "*shape"]]:
    """Likewise by Heun's method: the error of a step falls with its third power.

    The last step is Euler's: at time 1 a velocity learned from noise says nothing any more.
    """
    times = torch.linspace(0, 1, num_steps + 1, device=start.device)
    state = start
    yield state
    for step in range(num_steps):
        length = times[step + 1] - times[step]
        velocity = velocity_at(step, times[step], state)
        if step + 1 < num_steps:
            ahead = velocity_at(step, times[step + 1], state + length * velocity)
            velocity = (velocity + ahead) / 2
        state = state + length * velocity
        yield state


def _gumbel(exponential: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return -exponential.log()


def _chosen(part: Tensor, run: list[int]) -> Tensor:
    """Rows of some of the branches."""
    return torch.unflatten(part, 0, (NUM_BRANCHES, -1))[run].flatten(0, 1)


def _for_rows(
    noise: Float[Tensor, "layers 2 batch tokens"], run: list[int]
) -> Float[Tensor, "layers rows tokens"]:
    """Noise of the branches that are run; the one without a source image has nothing to choose."""
    padded = torch.cat([noise, torch.zeros_like(noise[:, :1])], dim=1)
    return padded[:, run].flatten(1, 2)
