"""Diffusion transformer: noisy latents and what they shall become, to the velocity toward it.

In:  latents [batch, channels, height, width] at times [batch] in 0 (noise) to 1 (image), and a
     `Condition` with a row for each.  Out: velocity [batch, channels, height, width].
Noisy and source latents lie together in every patch.  Time, task and the mean of the source image's
tokens are added up and modulate every layer; prompt and source-image tokens are attended to.
Source: PixWizard, a Lumina-Next DiT (docs/sources.md#dit).
Axes: height / width in latents, seq = patches row by row, layers = of this network.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from unimoe.config import DiTConfig
from unimoe.errors import RequestError
from unimoe.heads.dit_attention import AttentionInput, DiTAttention, grid_turns, softmax_scale
from unimoe.heads.token_sampler import TokenSampler
from unimoe.nn.layers import RMSNorm, SwiGLU

SINUSOIDS = 256
LONGEST_PERIOD = 10_000.0
FINAL_NORM_EPS = 1e-6


class Condition(NamedTuple):
    """What the network is told about each image beside its noisy latents and the time."""

    source: Float[Tensor, "batch channels height width"]
    """Latents of the source image, of the size that is drawn."""
    image: Float[Tensor, "batch tokens image_width"]
    """Tokens of the source image; a row of zeros says that there is none."""
    prompt: Float[Tensor, "batch prompt prompt_width"]
    prompt_mask: Bool[Tensor, "batch prompt"]
    """False for tokens that nobody attends to; a row without any True is no prompt, and NaN."""
    task: Float[Tensor, "batch task_width"]


class LayerInput(NamedTuple):
    """What every layer of one forward shares."""

    modulation: Float[Tensor, "batch condition_width"]
    task: Float[Tensor, "batch condition_width"]
    image: Float[Tensor, "batch tokens image_width"]
    prompt: Float[Tensor, "batch prompt prompt_width"]
    attention: AttentionInput


class TimeEmbedder(nn.Module):
    """A time as cosines and sines of 128 frequencies, then two linear maps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(SINUSOIDS, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, times: Float[Tensor, " batch"]) -> Float[Tensor, "batch width"]:
        """Embed times of 0 to 1, not scaled up: most of the frequencies hardly move."""
        half = SINUSOIDS // 2
        steps = torch.arange(half, device=times.device, dtype=torch.float32)
        phases = times.float()[:, None] * torch.exp(-math.log(LONGEST_PERIOD) * steps / half)
        waves = torch.cat([phases.cos(), phases.sin()], dim=-1)
        embedding: Tensor = self.mlp(waves.to(next(self.parameters()).dtype))
        return embedding


class DiTLayer(nn.Module):
    """Attention and feed-forward, normed on both sides, scaled going in and gated coming out."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.norm_eps
        self.modulation = nn.Linear(config.condition_width, 4 * width)
        self.sampler = TokenSampler(config)
        self.image_norm = RMSNorm(width, eps)
        self.prompt_norm = RMSNorm(config.prompt_width, eps)
        self.attention_norm = RMSNorm(width, eps)
        self.attention = DiTAttention(config)
        self.attention_out_norm = RMSNorm(width, eps)
        self.ffn_norm = RMSNorm(width, eps)
        self.ffn = SwiGLU(width, config.ffn_width)
        self.ffn_out_norm = RMSNorm(width, eps)

    def forward(
        self,
        hidden: Float[Tensor, "batch seq hidden"],
        shared: LayerInput,
        noise: Float[Tensor, "batch tokens"] | None,
    ) -> Float[Tensor, "batch seq hidden"]:
        """The tokens after this layer; `noise` is for its token sampler."""
        modulation = self.modulation(functional.silu(shared.modulation))[:, None]
        attention_scale, attention_gate, ffn_scale, ffn_gate = modulation.chunk(4, dim=-1)
        mixed = self.attention(
            self.attention_norm(hidden) * (1 + attention_scale),
            self.image_norm(self.sampler(shared.image, shared.task, noise)),
            self.prompt_norm(shared.prompt),
            shared.attention,
        )
        hidden = hidden + attention_gate.tanh() * self.attention_out_norm(mixed)
        changed = self.ffn(self.ffn_norm(hidden) * (1 + ffn_scale))
        output: Tensor = hidden + ffn_gate.tanh() * self.ffn_out_norm(changed)
        return output


class FinalLayer(nn.Module):
    """Tokens to patches of twice the channels; the second half, a variance, is never used."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.modulation = nn.Linear(config.condition_width, config.hidden_size)
        self.linear = nn.Linear(config.hidden_size, _patch_width(config))

    def forward(
        self,
        hidden: Float[Tensor, "batch seq hidden"],
        modulation: Float[Tensor, "batch condition_width"],
    ) -> Float[Tensor, "batch seq patch"]:
        """Norm without weights, scale, project."""
        normed = functional.layer_norm(hidden, hidden.shape[-1:], eps=FINAL_NORM_EPS)
        scale = self.modulation(functional.silu(modulation))[:, None]
        patches: Tensor = self.linear(normed * (1 + scale))
        return patches


class DiT(nn.Module):
    """The denoiser: latents, time and condition to velocity."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        condition = config.condition_width
        self.patch_embedder = nn.Linear(_patch_width(config), config.hidden_size)
        self.time_embedder = TimeEmbedder(condition)
        self.task_embedder = nn.Sequential(
            nn.LayerNorm(config.task_width), nn.Linear(config.task_width, condition)
        )
        self.image_embedder = nn.Sequential(
            nn.LayerNorm(config.image_width), nn.Linear(config.image_width, condition)
        )
        self.layers = nn.ModuleList(DiTLayer(config) for _ in range(config.num_layers))
        self.final = FinalLayer(config)
        # Carried along: it fills up shorter rows, and here all rows of a call are of one size.
        self.pad_token = nn.Parameter(torch.empty(config.hidden_size), requires_grad=False)
        self._initialise()

    def forward(
        self,
        latents: Float[Tensor, "batch channels height width"],
        times: Float[Tensor, " batch"],
        condition: Condition,
        *,
        noise: Float[Tensor, "layers batch tokens"] | None = None,
        base_tokens: int | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """Velocity of every image, in the dtype of its latents.

        Args:
            latents: at their times on the way from noise to image.
            times: 0 to 1.
            condition: a row an image.
            noise: Gumbel noise of the token samplers; None: the best scores are kept.
            base_tokens: as in `softmax_scale`; training leaves it out, drawing sets it.

        Raises:
            RequestError: latents that patches do not tile, a source of another size, or a source
                image of fewer tokens than a layer keeps.
        """
        self._require_sizes(latents, condition)
        dtype = self.patch_embedder.weight.dtype
        condition = _in_dtype(condition, dtype)
        rows, columns = (side // self.config.patch_side for side in latents.shape[2:])
        hidden = self.patch_embedder(self._patches(latents.to(dtype), condition.source))
        task = self.task_embedder(condition.task)
        overall = self.image_embedder(condition.image.mean(1))
        shared = LayerInput(
            modulation=self.time_embedder(times) + task + overall,
            task=task,
            image=condition.image,
            prompt=condition.prompt,
            attention=AttentionInput(
                turn=grid_turns(rows, columns, self.config.head_dim, latents.device),
                scale=softmax_scale(rows * columns, self.config.head_dim, base_tokens),
                prompt_mask=condition.prompt_mask,
            ),
        )
        for number, layer in enumerate(self.layers):
            hidden = layer(hidden, shared, None if noise is None else noise[number])
        patches = self.final(hidden, shared.modulation)
        return self._image(patches, rows, columns).to(latents.dtype)

    def _patches(
        self,
        latents: Float[Tensor, "batch channels height width"],
        source: Float[Tensor, "batch channels height width"],
    ) -> Float[Tensor, "batch seq patch"]:
        """Squares of noisy and source channels; in a patch the order is channel, row, column."""
        both = torch.cat([latents, source], dim=1)
        side = self.config.patch_side
        return functional.unfold(both, kernel_size=side, stride=side).transpose(1, 2)

    def _image(
        self, patches: Float[Tensor, "batch seq patch"], rows: int, columns: int
    ) -> Float[Tensor, "batch channels height width"]:
        """Back from patches, where the order is row, column, channel."""
        side = self.config.patch_side
        grid = patches.view(len(patches), rows, columns, side, side, -1)
        image = grid.permute(0, 5, 1, 3, 2, 4)  # [batch, channel, rows, side, columns, side]
        return image.flatten(4).flatten(2, 3)[:, : self.config.latent_channels]

    def _require_sizes(self, latents: Tensor, condition: Condition) -> None:
        side, kept = self.config.patch_side, self.config.num_kept_tokens
        if any(length % side for length in latents.shape[2:]):
            raise RequestError(
                f"latents of {list(latents.shape[2:])}; need multiples of {side}, the patch side"
            )
        if condition.source.shape != latents.shape:
            raise RequestError(
                f"source latents of {list(condition.source.shape)} for an image of "
                f"{list(latents.shape)}; resize the source image to the size that is drawn"
            )
        if condition.image.shape[1] < kept:
            raise RequestError(
                f"the source image has {condition.image.shape[1]} tokens, and every layer keeps "
                f"{kept}; cut it into more tiles"
            )

    @torch.no_grad()
    def _initialise(self) -> None:
        """As PixWizard starts: every layer the identity, the velocity zero."""
        zero = ("modulation", "final.linear", "task_embedder.1", "image_embedder.1")
        xavier = ("_proj", "patch_embedder")
        for name, module in self.named_modules():
            if not isinstance(module, nn.Linear):
                continue
            if name.endswith(zero):
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)
            elif name.endswith(xavier):
                # gate and up are two matrices in one
                for matrix in module.weight.chunk(2 if name.endswith("gate_up_proj") else 1):
                    nn.init.xavier_uniform_(matrix)
            elif name.startswith("time_embedder"):
                nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(self.patch_embedder.bias)
        nn.init.normal_(self.pad_token, std=0.02)


def _patch_width(config: DiTConfig) -> int:
    """Numbers in a patch, coming in (noisy and source) as well as going out (with the variance)."""
    return 2 * config.latent_channels * config.patch_side**2


def _in_dtype(condition: Condition, dtype: torch.dtype) -> Condition:
    return condition._replace(
        source=condition.source.to(dtype),
        image=condition.image.to(dtype),
        prompt=condition.prompt.to(dtype),
        task=condition.task.to(dtype),
    )
