"""Pictures to latents and back: principal components of blocks, and a decoder that refines them.

In:  pictures [batch, 3, height, width], 0 to 1.  Out: latents [batch, channels, height / 8,
width / 8], of mean 0 and variance 1 over the pictures they were fitted to; and pictures again.
The encoder is linear: the strongest principal components of blocks of 8 x 8 pixels, found at once.
A convolutional decoder, that of diffusers' AutoencoderKL, adds what they leave out. So latents stay
the same however long the decoder learns, and whatever was trained on them stays right.
Channels are scaled by the square root of their deviation: the coarse ones stay the strongest, so
that drawing goes from coarse to fine, and fine ones are not lost in the noise.
Source: Decoder of diffusers' autoencoders, at small width (docs/sources.md#vae).
Axes: height / width in pixels, rows / columns in latents, block = 3 x 8 x 8 numbers.
"""

from __future__ import annotations

import torch
from diffusers.models.autoencoders.vae import Decoder
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unimoe.config import VAEConfig
from unimoe.errors import RequestError

EDGE_WEIGHT = 0.5
"""Of errors in the differences of neighbouring pixels: drawings are made of edges."""


class PictureVAE(nn.Module):
    """The components and their statistics, and the decoder."""

    components: Tensor
    block_mean: Tensor
    scale: Tensor

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        numbers, levels = 3 * config.latent_pixels**2, len(config.widths)
        self.decoder = Decoder(
            in_channels=config.latent_channels,
            out_channels=3 * config.shuffled_side**2,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=config.widths,
            layers_per_block=1,
            norm_num_groups=config.norm_groups,
            mid_block_add_attention=False,
        )
        nn.init.zeros_(self.decoder.conv_out.weight)  # begin as the linear decoder
        nn.init.zeros_(self.decoder.conv_out.bias)
        self.register_buffer("components", torch.eye(config.latent_channels, numbers))
        self.register_buffer("block_mean", torch.zeros(numbers))
        self.register_buffer("scale", torch.ones(config.latent_channels))

    @torch.no_grad()
    def fit(self, pictures: Float[Tensor, "batch 3 height width"]) -> None:
        """Take components, mean and scales from these pictures."""
        blocks = self._blocks(pictures).transpose(1, 2).flatten(0, 1)  # [batch x places, block]
        self.block_mean.copy_(blocks.mean(0))
        centred = blocks - self.block_mean
        variances, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
        strongest = variances.argsort(descending=True)[: self.config.latent_channels]
        self.components.copy_(axes[:, strongest].T)
        roots = variances[strongest].clamp_min(1e-8) ** 0.25
        # variance / root^2 is the deviation; its mean over channels makes the latents' variance 1
        self.scale.copy_(roots * roots.square().mean().sqrt())

    def encode(
        self, pictures: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        """The latents.

        Raises:
            RequestError: a side is no multiple of the pixels that a latent stands for.
        """
        rows = pictures.shape[2] // self.config.latent_pixels
        blocks = self._blocks(pictures) - self.block_mean[:, None]
        latents = torch.einsum("cn,bnp->bcp", self.components, blocks) / self.scale[:, None]
        return torch.unflatten(latents, -1, (rows, -1))

    def decode(
        self, latents: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Pictures, 0 to 1."""
        return self.refined(latents).clamp(0, 1)

    def refined(
        self, latents: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """What the components say, and what the decoder adds to it; not held to 0 to 1."""
        added: Tensor = self.decoder(latents)
        return self.linear(latents) + functional.pixel_shuffle(added, self.config.shuffled_side)

    def linear(
        self, latents: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """What the components alone say."""
        raw = latents * self.scale[:, None, None]
        blocks = torch.einsum("cn,bchw->bnhw", self.components, raw)
        mean = self.block_mean[:, None, None]
        return functional.pixel_shuffle(blocks + mean, self.config.latent_pixels)

    def loss(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, ""]:
        """Errors of pixels, and of edges."""
        rebuilt = self.refined(self.encode(pictures)).float()
        edges = sum(
            functional.l1_loss(rebuilt.diff(dim=dim), pictures.diff(dim=dim)) for dim in (2, 3)
        )
        return functional.l1_loss(rebuilt, pictures) + EDGE_WEIGHT * edges

    def _blocks(
        self, pictures: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch block places"]:
        pixels = self.config.latent_pixels
        if any(side % pixels for side in pictures.shape[2:]):
            raise RequestError(
                f"pictures of {list(pictures.shape[2:])} pixels; need multiples of {pixels}, the "
                "side that one latent stands for. Resize them"
            )
        return functional.pixel_unshuffle(pictures, pixels).flatten(2)


def psnr(
    pictures: Float[Tensor, "batch 3 height width"], wanted: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, " batch"]:
    """Peak signal-to-noise ratio of every picture of 0 to 1, in dB."""
    return -10 * (pictures - wanted).square().flatten(1).mean(1).clamp_min(1e-10).log10()
