"""The painter: states of the core to a picture, with the autoencoder on both of its sides.

In:  states of [TASK] [batch, 1, core_width] and [IMG] [batch, states, core_width] tokens, after the
     final norm; a source picture to start from, or none.
Out: a picture of 96 pixels uint8 [96, 96, 3], and on the way how far it is.
States are normalised by recorded statistics of their own place: most of a control token's state is
the same whatever is asked, a tenth of it tells prompts apart. Where no source picture is given, a
draft stands in its place: what pictures of such words look like in the mean, straight from the
states. The DiT makes a picture of it as it does of a picture that is to be repaired: it draws what
is to become of its source. A source picture reaches the DiT by its latents, which lie in every
patch beside the noisy ones; of tokens of the vision encoder it is told there are none.
Source: design of the mini model (docs/sources.md#painter).
Axes: places = [TASK] and the [IMG] tokens, in this order; rows / columns in latents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from unimoe.config import DRAWING_GUIDANCE, DRAWING_STEPS, GuidanceConfig, PainterConfig
from unimoe.errors import RequestError
from unimoe.heads.dit import Condition, DiT
from unimoe.heads.flow import NUM_BRANCHES, ImageProgress, Method
from unimoe.heads.source_changes import is_repaired, keep_untouched
from unimoe.heads.task_dit import TaskFeatures, draw_latents
from unimoe.heads.vae import PictureVAE

PAINTER = "painter"
"""Name of the files that hold it (`head_files`)."""

_REPAIR_STEPS, _REPAIR_DRAWS = 2, 8
_CHANGED = 0.3
"""Variance of what an image adds to its source, in latents: between that of a noisy picture, 0.09,
and of a blurred one, 0.6 (docs/log.md)."""

Picture = UInt8[np.ndarray, "height width 3"]


class Draft(nn.Module):
    """Normalised states to the mean of what such words look like, in latents."""

    def __init__(self, config: PainterConfig) -> None:
        super().__init__()
        gathered, width = config.draft_widths
        channels, side = config.vae.latent_channels, config.latent_side
        self.shape = (channels, side, side)
        self.gather = nn.Linear((1 + config.num_image_states) * config.core_width, gathered)
        self.widen = nn.Linear(gathered, width)
        self.out = nn.Linear(width, channels * side * side)

    def understood(
        self, normal: Float[Tensor, "batch places core_width"]
    ) -> Float[Tensor, "batch draft_width"]:
        """What the draft is made of: all states in one vector."""
        gathered = functional.gelu(self.gather(normal.flatten(1)))
        return functional.gelu(self.widen(gathered))

    def drawn(
        self, understood: Float[Tensor, "batch draft_width"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        """The draft of what was understood."""
        return torch.unflatten(self.out(understood), -1, self.shape)

    def forward(
        self, normal: Float[Tensor, "batch places core_width"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        """The draft."""
        return self.drawn(self.understood(normal))


class StateProjector(nn.Module):
    """Normalised states to what conditions the DiT: the prompt, and a vector a branch."""

    def __init__(self, config: PainterConfig) -> None:
        super().__init__()
        dit = config.dit
        self.content = nn.Linear(config.core_width, dit.prompt_width)
        self.places = nn.Parameter(torch.zeros(config.num_image_states, dit.prompt_width))
        self.task = nn.Linear(config.draft_widths[1], dit.task_width)
        self.unprompted = nn.Parameter(torch.randn(NUM_BRANCHES - 1, dit.task_width))

    def forward(
        self,
        normal: Float[Tensor, "batch places core_width"],
        understood: Float[Tensor, "batch draft_width"],
    ) -> tuple[
        Float[Tensor, "batch states prompt_width"], Float[Tensor, "batch branches task_width"]
    ]:
        """Of every [IMG] state a token of the prompt; what was understood as the first branch."""
        prompt = self.content(normal[:, 1:]) + self.places
        others = self.unprompted.expand(len(prompt), -1, -1)
        return prompt, torch.cat([self.task(understood)[:, None], others], dim=1)


class SourceDiT(DiT):
    """A DiT whose network adds to a velocity that is guessed from the source.

    So what is to stay need not be copied through the network (docs/log.md).
    """

    def forward(
        self,
        latents: Float[Tensor, "batch channels height width"],
        times: Float[Tensor, " batch"],
        condition: Condition,
        *,
        noise: Float[Tensor, "layers batch tokens"] | None = None,
        base_tokens: int | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """Velocity of every image; arguments and errors are those of `DiT.forward`."""
        added = super().forward(latents, times, condition, noise=noise, base_tokens=base_tokens)
        return added + guessed_velocity(latents, times, condition.source.to(latents.dtype))


def guessed_velocity(
    latents: Float[Tensor, "batch channels height width"],
    times: Float[Tensor, " batch"],
    source: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch channels height width"]:
    """The mean of what it can be, if an image is its source and normal noise of `_CHANGED`."""
    image_share = times.view(-1, 1, 1, 1).to(latents.dtype)
    noise_share = 1 - image_share
    pull = (image_share * _CHANGED - noise_share) / (image_share**2 * _CHANGED + noise_share**2)
    return source + pull * (latents - image_share * source)


class Asked(NamedTuple):
    """What the states of a prompt say."""

    features: TaskFeatures
    draft: Float[Tensor, "batch channels rows columns"]


class Painter(nn.Module):
    """Autoencoder, draft, projector and DiT."""

    state_mean: Tensor
    state_std: Tensor

    def __init__(self, config: PainterConfig) -> None:
        super().__init__()
        self.config = config
        self.vae = PictureVAE(config.vae)
        self.draft = Draft(config)
        self.projector = StateProjector(config)
        self.dit = SourceDiT(config.dit)
        shape = (1 + config.num_image_states, config.core_width)
        self.register_buffer("state_mean", torch.zeros(shape))
        self.register_buffer("state_std", torch.ones(shape))

    @torch.no_grad()
    def fit_states(self, states: Float[Tensor, "prompts places core_width"]) -> None:
        """Take the statistics of the core's states from these prompts."""
        self.state_mean.copy_(states.mean(0))
        self.state_std.copy_(states.std(0).clamp_min(1e-3))

    def normalised(
        self, states: Float[Tensor, "batch places core_width"]
    ) -> Float[Tensor, "batch places core_width"]:
        """States of [TASK] and [IMG] by the statistics of their place."""
        return (states.float() - self.state_mean) / self.state_std

    def read(self, normal: Float[Tensor, "batch places core_width"]) -> Asked:
        """What normalised states ask for."""
        understood = self.draft.understood(normal)
        prompt, task = self.projector(normal, understood)
        dit = self.config.dit
        image = prompt.new_zeros(len(prompt), dit.num_kept_tokens, dit.image_width)
        return Asked(TaskFeatures(prompt, task, image), self.draft.drawn(understood))

    def blank_source(self, batch: int) -> Float[Tensor, "batch channels rows columns"]:
        """Latents of a white picture, which stands where there is neither source nor prompt."""
        side = self.config.picture_side
        return self.vae.encode(torch.ones(batch, 3, side, side, device=self.state_mean.device))

    @torch.no_grad()
    def draw(
        self,
        image_states: Float[Tensor, "states core_width"],
        task_states: Float[Tensor, "1 core_width"],
        source: Picture | None = None,
        *,
        steps: int = DRAWING_STEPS,
        guidance_scale: float = DRAWING_GUIDANCE,
        image_guidance_scale: float = 1.0,
        method: Method = "heun",
        seed: int = 0,
    ) -> Iterator[ImageProgress | Picture]:
        """Draw a picture: its progress, and last the picture itself.

        Args:
            image_states: of the core, after its final norm.
            task_states: likewise.
            source: a picture of `picture_side` pixels to edit or repair. Where an edit changed
                little it stays as it was; a repair is drawn anew, without guidance, in two
                steps, as the mean of several. None: from words alone.
            steps: from noise to picture.
            guidance_scale: 1 follows the words as they are; above, away from drawing without them.
            image_guidance_scale: likewise of the source picture.
            method: of the steps, as in `guided_states`.
            seed: of the noise; the same one gives the same picture.

        Raises:
            RequestError: a source picture of another size, or states of another number.
        """
        wanted = len(self.state_mean) - 1
        if len(image_states) != wanted or len(task_states) != 1:
            raise RequestError(
                f"{len(image_states)} states of [IMG] and {len(task_states)} of [TASK]; this "
                f"painter takes {wanted} and 1"
            )
        guidance = GuidanceConfig(
            num_steps=steps,
            text_scale=guidance_scale,
            image_scale=image_guidance_scale,
            guided_channels=self.config.vae.latent_channels,
            base_tokens=None,
        )
        asked = self.read(self.normalised(torch.cat([task_states, image_states])[None]))
        given = self.blank_source(1) if source is None else self._latents(source)
        states = draw_latents(
            self.dit,
            asked.features,
            asked.draft if source is None else given,
            seeds=[seed],
            guidance=guidance,
            unprompted_source=given,
            method=method,
        )
        for step, state in enumerate(states):
            latents = state
            yield ImageProgress(step, steps)
        drawn = self._picture(latents)
        if source is None:
            yield drawn
        elif is_repaired(drawn, source):
            yield self._picture(self._mean_repair(asked.features, given, guidance, seed))
        else:
            yield keep_untouched(drawn, source)

    def _mean_repair(
        self,
        features: TaskFeatures,
        given: Float[Tensor, "1 channels rows columns"],
        guidance: GuidanceConfig,
        seed: int,
    ) -> Float[Tensor, "1 channels rows columns"]:
        """Of all pictures it may have been, their mean is nearest to what it was."""
        several = TaskFeatures(*(part.repeat_interleave(_REPAIR_DRAWS, 0) for part in features))
        *_, latents = draw_latents(
            self.dit,
            several,
            given.repeat_interleave(_REPAIR_DRAWS, 0),
            seeds=range(seed, seed + _REPAIR_DRAWS),
            guidance=replace(guidance, num_steps=_REPAIR_STEPS, text_scale=1.0),
        )
        return latents.mean(0, keepdim=True)

    @torch.no_grad()
    def rebuilt(self, picture: Picture) -> Picture:
        """A picture to latents and back.

        Raises:
            RequestError: it has another size.
        """
        return self._picture(self._latents(picture))

    def _picture(self, latents: Float[Tensor, "1 channels rows columns"]) -> Picture:
        pixels = self.vae.decode(latents)[0].permute(1, 2, 0)
        return (255 * pixels).round().to(torch.uint8).cpu().numpy()

    def _latents(self, source: Picture) -> Float[Tensor, "1 channels rows columns"]:
        side = self.config.picture_side
        if source.shape != (side, side, 3):
            raise RequestError(
                f"a source picture of {source.shape[1]} x {source.shape[0]} pixels; the painter "
                f"takes {side} x {side}. Resize it"
            )
        pixels = torch.from_numpy(source.copy()).permute(2, 0, 1)[None].float() / 255
        return self.vae.encode(pixels.to(self.state_mean.device))
