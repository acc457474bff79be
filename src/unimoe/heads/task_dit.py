"""Task-DiT, the image head: states of the language core to the latents of an image.

In:  states of the [IMG] tokens [batch, states, core_width] and of the [TASK] tokens, and the core's
     embeddings of the source image [batch, tokens, core_width]; latents of the source image.
Out: latents [batch, channels, height, width], drawn by guided flow matching; or a loss.
Content projector: what to draw, in the place of a prompt's text states.  Task projector: three
vectors of how, one a branch of guidance.  Visual projector: the source image's tokens.
A picture from words alone has a white image as its source, in the prompt too.
Source: paper section 2.4; released projectors and sampler (docs/sources.md#task-dit).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unimoe.config import GuidanceConfig, TaskDiTConfig
from unimoe.errors import RequestError
from unimoe.heads.dit import Condition, DiT
from unimoe.heads.flow import (
    NUM_BRANCHES,
    FlowDraws,
    Method,
    draw_sampling,
    flow_loss,
    guided_states,
)


class TaskFeatures(NamedTuple):
    """What the projectors make of the core's states."""

    prompt: Float[Tensor, "batch prompt prompt_width"]
    task: Float[Tensor, "batch 3 task_width"]
    image: Float[Tensor, "batch tokens image_width"]


class QueryProjector(nn.Module):
    """A transformer that gathers any number of states into a few, by learned queries.

    No masks and no positions: order is known from the states alone.
    """

    def __init__(self, config: TaskDiTConfig, num_queries: int, out_width: int) -> None:
        super().__init__()
        width = config.projector_width
        self.in_proj = nn.Linear(config.core_width, width)
        self.queries = nn.Parameter(torch.empty(1, num_queries, width))
        # Two stacks rather than nn.Transformer, whose encoder warns of a path that it cannot take.
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(**_layer_options(config)),
            config.projector_layers,
            norm=nn.LayerNorm(width),
            enable_nested_tensor=False,
        )
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(**_layer_options(config)),
            config.projector_layers,
            norm=nn.LayerNorm(width),
        )
        self.out_proj = nn.Linear(width, out_width)
        self._initialise()

    def forward(
        self, states: Float[Tensor, "batch states core_width"]
    ) -> Float[Tensor, "batch queries out_width"]:
        """The gathered states."""
        memory = self.encoder(self.in_proj(states))
        gathered = self.decoder(self.queries.expand(len(states), -1, -1), memory)
        output: Tensor = self.out_proj(gathered)
        return output

    @torch.no_grad()
    def _initialise(self) -> None:
        """Every matrix of its own: torch starts all layers of a stack as copies of one.

        Queries differ from the start; zero, as released, they would stay alike for ever.
        """
        for stack in (self.encoder, self.decoder):
            for parameter in stack.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        nn.init.normal_(self.queries, std=0.02)


class TaskDiT(nn.Module):
    """Three projectors and the DiT that they condition."""

    def __init__(self, config: TaskDiTConfig) -> None:
        super().__init__()
        self.config = config
        dit = config.dit
        self.content_projector = QueryProjector(config, config.num_prompt_tokens, dit.prompt_width)
        self.task_projector = QueryProjector(config, NUM_BRANCHES, dit.task_width)
        self.visual_projector = nn.Linear(config.core_width, dit.image_width)
        self.dit = DiT(dit)

    def features(
        self,
        image_states: Float[Tensor, "batch states core_width"],
        task_states: Float[Tensor, "batch task_states core_width"],
        vision_tokens: Float[Tensor, "batch tokens core_width"],
    ) -> TaskFeatures:
        """Project the core's states, while learning and while drawing alike.

        Args:
            image_states: after the final norm, of the [IMG] tokens.
            task_states: likewise, of the [TASK] tokens.
            vision_tokens: of the source image, as they stand in the core's input.
        """
        dtype = self.visual_projector.weight.dtype
        return TaskFeatures(
            prompt=self.content_projector(image_states.to(dtype)),
            task=self.task_projector(task_states.to(dtype)),
            image=self.visual_projector(vision_tokens.to(dtype)),
        )

    def loss(
        self,
        features: TaskFeatures,
        source: Float[Tensor, "batch channels height width"],
        target: Float[Tensor, "batch channels height width"],
        draws: FlowDraws,
    ) -> Float[Tensor, ""]:
        """Flow-matching loss with everything given, as the first branch of guidance."""
        return flow_loss(self.dit, target, full_condition(features, source), draws)


def draw_latents(
    dit: DiT,
    features: TaskFeatures,
    source: Float[Tensor, "batch channels height width"],
    *,
    seeds: Sequence[int],
    guidance: GuidanceConfig,
    unprompted_source: Float[Tensor, "batch channels height width"] | None = None,
    blank_prompt: Float[Tensor, " prompt_width"] | None = None,
    method: Method = "euler",
) -> Iterator[Float[Tensor, "batch channels height width"]]:
    """Latents on their way from noise to image: `num_steps` + 1 states, the last is the image.

    Args:
        dit: draws.
        features: what projectors make of the core's states.
        source: latents of the source image, which say the size too.
        seeds: one an image, which then depends on nothing else in the batch.
        guidance: steps and scales.
        unprompted_source: of the branch without a prompt; None: the same.
        blank_prompt: text state of an empty prompt; None: zeros, of which attention takes nothing.
            Released weights were trained with the text encoder's state of "".
        method: of the steps; the release's is Euler's.

    Raises:
        RequestError: not one seed an image; or, at the first step, sizes that the DiT refuses.
    """
    if len(seeds) != len(source):
        raise RequestError(f"{len(seeds)} seeds for {len(source)} images; give one each")
    draws = draw_sampling(
        dit,
        seeds,
        size=(source.shape[2], source.shape[3]),
        num_tokens=features.image.shape[1],
        num_steps=guidance.num_steps,
    )
    unprompted = source if unprompted_source is None else unprompted_source
    branches = guidance_branches(features, source, unprompted, draws.start, blank_prompt)
    return guided_states(dit, branches, draws, guidance, method)


def full_condition(
    features: TaskFeatures, source: Float[Tensor, "batch channels height width"]
) -> Condition:
    """First branch: prompt and source image."""
    prompt = features.prompt
    mask = torch.ones(prompt.shape[:2], dtype=torch.bool, device=prompt.device)
    return Condition(source, features.image, prompt, mask, features.task[:, 0])


def image_condition(
    features: TaskFeatures,
    source: Float[Tensor, "batch channels height width"],
    blank_prompt: Float[Tensor, " prompt_width"] | None,
) -> Condition:
    """Second branch: the source image alone."""
    full = full_condition(features, source)
    blank = full.prompt.new_zeros(()) if blank_prompt is None else blank_prompt.to(full.prompt)
    only_first = torch.zeros_like(full.prompt_mask)
    only_first[:, 0] = True
    return full._replace(
        prompt=blank.expand_as(full.prompt), prompt_mask=only_first, task=features.task[:, 1]
    )


def empty_condition(
    features: TaskFeatures,
    noise: Float[Tensor, "batch channels height width"],
    blank_prompt: Float[Tensor, " prompt_width"] | None,
) -> Condition:
    """Third branch: neither; noise is in the place of the source image."""
    alone = image_condition(features, noise, blank_prompt)
    return alone._replace(image=torch.zeros_like(alone.image), task=features.task[:, 2])


def guidance_branches(
    features: TaskFeatures,
    source: Float[Tensor, "batch channels height width"],
    unprompted_source: Float[Tensor, "batch channels height width"],
    noise: Float[Tensor, "batch channels height width"],
    blank_prompt: Float[Tensor, " prompt_width"] | None,
) -> Condition:
    """All three, one below the other: rows = branches x batch."""
    branches = (
        full_condition(features, source),
        image_condition(features, unprompted_source, blank_prompt),
        empty_condition(features, noise.to(source.dtype), blank_prompt),
    )
    return Condition(*(torch.cat(parts) for parts in zip(*branches, strict=True)))


class _LayerOptions(TypedDict):
    """Arguments that layers of encoder and decoder share."""

    d_model: int
    nhead: int
    dim_feedforward: int
    dropout: float
    norm_first: bool
    batch_first: bool


def _layer_options(config: TaskDiTConfig) -> _LayerOptions:
    return _LayerOptions(
        d_model=config.projector_width,
        nhead=config.projector_heads,
        dim_feedforward=4 * config.projector_width,
        dropout=0.0,
        norm_first=True,
        batch_first=True,
    )
