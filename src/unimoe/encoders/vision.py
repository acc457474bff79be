"""Vision encoder: tiles of an image or of video frames to embeddings of the language core.

In:  pixel values [tiles, 3, side, side], normalised.  Out: embeddings [tiles, tokens, hidden].
SigLIP or DINOv2 patches; a two-layer aligner on every patch, then average pooling; or an aligner
of whole windows of patches.
Source: paper 2.2; released tower and aligner (docs/sources.md#vision).
Axes: patches = (side // patch_side) squared, states = patches and, if it is read, the class state,
width = tower's, hidden = core's.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unimoe.config import VisionConfig
from unimoe.encoders.connector import WindowAligner, mlp, pool_patches
from unimoe.encoders.detail import detail_pixels
from unimoe.encoders.rows import encode_rows
from unimoe.encoders.soft_words import SoftWords

TILES_PER_CHUNK = 8
"""SigLIP-So400M holds about 0.1 GB of activations for these in float32."""


class VisionEncoder(nn.Module):
    """Tower, aligner, pooling; and the words its embeddings are put in, if they are."""

    def __init__(self, config: VisionConfig, hidden_size: int, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.tower: Any = _siglip(config) if config.tower == "siglip" else _dinov2(config)
        self.aligner = (
            WindowAligner(config, hidden_size)
            if config.aligner_layers
            else mlp(config.hidden_size, hidden_size, num_layers=2)
        )
        self.words = SoftWords(vocab_size) if config.speaks_words else None

    def forward(
        self,
        pixel_values: Float[Tensor, "tiles 3 side side"],
        table: Float[Tensor, "vocab hidden"] | None = None,
    ) -> Float[Tensor, "tiles tokens hidden"]:
        """Embeddings of every tile; equal tiles are encoded once.

        Args:
            pixel_values: normalised tiles.
            table: the core's embedding table: they are put in words, if the encoder speaks.
                None: as they come from the aligner.
        """
        pixels = pixel_values.to(next(self.parameters()).dtype)
        return encode_rows(
            lambda chunk: self.read(self.states(chunk), table),
            pixels,
            rows_per_chunk=TILES_PER_CHUNK,
        )

    def states(
        self, pixels: Float[Tensor, "tiles 3 side side"]
    ) -> Float[Tensor, "tiles states width"]:
        """What the tower sees in each patch (and, last, as a whole), its colours, its pixels.

        With a frozen tower it need be computed only once.
        """
        config = self.config
        is_siglip = config.tower == "siglip"
        seen = self._siglip_patches(pixels) if is_siglip else self._dinov2_patches(pixels)
        return self._beside_pixels(seen, pixels)

    def pixel_states(
        self, pixels: Float[Tensor, "tiles 3 side side"]
    ) -> Float[Tensor, "tiles states width"]:
        """States of which the tower says nothing, zeros: what can be had without its work."""
        shape = (len(pixels), self.config.states_per_tile, self.config.hidden_size)
        return self._beside_pixels(pixels.new_zeros(shape), pixels)

    def _beside_pixels(
        self,
        described: Float[Tensor, "tiles states hidden"],
        pixels: Float[Tensor, "tiles 3 side side"],
    ) -> Float[Tensor, "tiles states width"]:
        config, seen = self.config, [described]
        if config.colour_levels:
            seen.append(self._colours(pixels))
        if config.detail_side:
            detail = detail_pixels(pixels, config.patches_across, config.detail_side)
            # The class state is of no place, and has no pixels.
            seen.append(functional.pad(detail, (0, 0, 0, int(config.reads_class_state))))
        return torch.cat(seen, dim=-1)

    def _colours(
        self, pixels: Float[Tensor, "tiles 3 side side"]
    ) -> Float[Tensor, "tiles states colours"]:
        """Shares of colours in each patch, and in the tile, if its class state is read."""
        config = self.config
        mean, std = (
            pixels.new_tensor(values, dtype=torch.float32)[:, None, None]
            for values in (config.pixel_mean, config.pixel_std)
        )
        across, inner = config.patches_across, config.patch_side
        seen = (pixels.float() * std + mean)[..., : across * inner, : across * inner]
        cut = seen.reshape(-1, 3, across, inner, across, inner)
        patches = cut.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)
        shares = colour_shares(patches, config.colour_levels)
        if config.reads_class_state:
            shares = torch.cat([shares, shares.mean(1, keepdim=True)], dim=1)
        return shares.to(pixels.dtype)

    def connect(
        self, states: Float[Tensor, "tiles states width"]
    ) -> Float[Tensor, "tiles tokens hidden"]:
        """Embeddings of every tile from its states, not yet in words."""
        embeddings: Tensor = self.aligner(states.to(next(self.aligner.parameters()).dtype))
        if not self.config.aligner_layers:
            # Pooling comes last, as released: the aligner is not linear.
            embeddings = pool_patches(embeddings, self.config.pool_side)
        return embeddings

    def read(
        self,
        states: Float[Tensor, "tiles states width"],
        table: Float[Tensor, "vocab hidden"] | None,
    ) -> Float[Tensor, "tiles tokens hidden"]:
        """Embeddings of every tile as the core reads them: in words, if the encoder speaks.

        Without the core's table they are those of `connect`.
        """
        embeddings = self.connect(states)
        if self.words is not None and table is not None:
            embeddings = self.words(embeddings, table)
        return embeddings

    def _siglip_patches(
        self, pixels: Float[Tensor, "tiles 3 side side"]
    ) -> Float[Tensor, "tiles patches width"]:
        """States after the last layer; the norm behind it is carried along but not applied."""
        embeddings = self.tower.embeddings
        patches = embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        positioned = patches + embeddings.position_embedding.weight
        states: Tensor = self.tower.encoder(inputs_embeds=positioned).last_hidden_state
        return states

    def _dinov2_patches(
        self, pixels: Float[Tensor, "tiles 3 side side"]
    ) -> Float[Tensor, "tiles states width"]:
        """States after the final norm, which DINOv2's features are meant with."""
        states: Tensor = self.tower(pixels).last_hidden_state
        if self.config.reads_class_state:
            return states.roll(-1, dims=1)  # the class state goes to the end
        return states[:, 1:]


def colour_shares(
    pixels: Float[Tensor, "*places pixels 3"], levels: int
) -> Float[Tensor, "*places colours"]:
    """How much of a place is near each colour of a cube, red counting slowest; 1 on average.

    A pixel between two levels of a channel counts for both, by how near it is to each. Shares of a
    union are means of shares, so whoever adds up sees what is there, and how much of it; of mean
    pixels it would see a mixture with the background.

    Args:
        pixels: of every place, from 0 to 1; what lies beyond counts as the nearest of these.
        levels: of each channel, the first 0, the last 1.
    """
    steps = torch.arange(levels, device=pixels.device)
    distances = (pixels.clamp(0, 1)[..., None] * (levels - 1) - steps).abs()
    red, green, blue = (1 - distances).clamp_min(0).unbind(-2)  # [*places, pixels, levels]
    red_green = (red[..., :, None] * green[..., None, :]).flatten(-2)
    shares = (red_green.transpose(-1, -2) @ blue).flatten(-2) / pixels.shape[-2]
    return shares * levels**3


# transformers takes three seconds to import, and a model that only reads text never needs it:
# so the towers import their classes when one is built.


def _siglip(config: VisionConfig) -> Any:
    from transformers.models.siglip import SiglipVisionConfig, SiglipVisionModel

    settings = SiglipVisionConfig(
        hidden_size=config.hidden_size,
        intermediate_size=config.ffn_width,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        image_size=config.image_side,
        patch_size=config.patch_side,
        layer_norm_eps=config.layer_norm_eps,
        hidden_act=config.hidden_act,
        vision_use_head=False,
        attn_implementation="sdpa",
    )
    tower = SiglipVisionModel(settings)
    # A buffer that no checkpoint holds would stay on the meta device; it only counts 0, 1, 2, ...
    del tower.embeddings.position_ids
    return tower


def _dinov2(config: VisionConfig) -> Any:
    from transformers.models.dinov2 import Dinov2Config, Dinov2Model

    settings = Dinov2Config(
        hidden_size=config.hidden_size,
        mlp_ratio=config.ffn_width // config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        image_size=config.image_side,
        patch_size=config.patch_side,
        layer_norm_eps=config.layer_norm_eps,
        hidden_act=config.hidden_act,
        attn_implementation="sdpa",
    )
    return Dinov2Model(settings)
