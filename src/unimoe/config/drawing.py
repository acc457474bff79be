"""What draws: the diffusion transformer, its guidance, the autoencoder, mini's painter."""

from __future__ import annotations

from dataclasses import dataclass

from unimoe.config.claims import require

DRAWING_STEPS, DRAWING_GUIDANCE = 15, 2.0
"""How mini draws unless it is told otherwise: steps of Heun's method, scale of the words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiTConfig:
    """The diffusion transformer that turns noise into image latents."""

    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    ffn_width: int
    condition_width: int
    """Of the sum of time, task and image embeddings, which modulates every layer."""
    prompt_width: int
    task_width: int
    image_width: int
    """Of a source-image token, as the visual projector makes it."""
    latent_channels: int = 4
    patch_side: int = 2
    """A token is a square of this side, in latents; noisy and source latents lie in it together."""
    num_kept_tokens: int = 256
    """Source-image tokens that every layer chooses and attends to."""
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("num_layers", "num_heads", "num_kv_heads", "ffn_width", "num_kept_tokens"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; need 1 or more")
        require(
            self.num_heads % self.num_kv_heads == 0,
            f"num_heads {self.num_heads} is no multiple of num_kv_heads {self.num_kv_heads}",
        )
        require(
            self.hidden_size % (4 * self.num_heads) == 0,
            f"hidden_size {self.hidden_size} is no multiple of 4 x num_heads {self.num_heads}: "
            "half of a head's channel pairs turn with the row, half with the column",
        )

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.hidden_size // self.num_heads


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskDiTConfig:
    """The image head: three projectors of the core's states, and the DiT they condition."""

    dit: DiTConfig
    core_width: int
    """Of the states that come in: the hidden size of the language core."""
    num_prompt_tokens: int = 32
    """Tokens that the states of [IMG] are gathered into."""
    projector_width: int = 1536
    projector_layers: int = 4
    """Of the encoder, and again of the decoder."""
    projector_heads: int = 4

    def __post_init__(self) -> None:
        require(
            self.projector_heads >= 1 and self.projector_width % self.projector_heads == 0,
            f"projector_width {self.projector_width} is no multiple of projector_heads "
            f"{self.projector_heads}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidanceConfig:
    """How an image is drawn: steps of the Euler method and scales of guidance."""

    num_steps: int = 59
    """The release's 60 are the points in time, both ends included."""
    text_scale: float = 4.0
    """1: the prompt as it is; above, away from what the source image alone would give."""
    image_scale: float = 1.0
    """1: the source image as it is; above, away from what neither would give."""
    guided_channels: int = 3
    """Of the latents; those after them follow prompt and image unguided. 3 as released."""
    base_tokens: int | None = 2304
    """Tokens of the image size trained on: attention is sharpened by the logarithm to this base of
    the tokens there are. 48 x 48 for 768 pixels a side; None: plain attention."""

    def __post_init__(self) -> None:
        require(self.num_steps >= 1, f"num_steps is {self.num_steps}; need 1 or more")
        require(
            self.guided_channels >= 0,
            f"guided_channels is {self.guided_channels}; need 0 or more",
        )
        require(
            self.base_tokens is None or self.base_tokens >= 2,
            f"base_tokens is {self.base_tokens}; need 2 or more, or None",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class VAEConfig:
    """The autoencoder between pictures and the latents that the DiT draws."""

    latent_channels: int = 24
    widths: tuple[int, ...] = (64, 128)
    """Channels of the decoder's levels, the largest side first; to the next, sides are halved."""
    shuffled_side: int = 4
    """What the decoder gives at one place is a square of so many pixels a side."""
    norm_groups: int = 8

    def __post_init__(self) -> None:
        for name in ("latent_channels", "shuffled_side", "norm_groups"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; need 1 or more")
        require(len(self.widths) >= 1, "widths is empty; need the channels of one level or more")
        for width in self.widths:
            require(
                width % self.norm_groups == 0,
                f"width {width} is no multiple of norm_groups {self.norm_groups}",
            )

    @property
    def latent_pixels(self) -> int:
        """Side of the square of pixels that one latent stands for."""
        return self.shuffled_side << (len(self.widths) - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class PainterConfig:
    """Everything that turns states of the core into a picture."""

    dit: DiTConfig
    core_width: int
    """Of the states that come in: the hidden size of the language core."""
    vae: VAEConfig
    picture_side: int = 96
    """Of the pictures drawn, in pixels."""
    num_image_states: int = 8
    """[IMG] tokens of a prompt; before them stands one [TASK] token."""
    draft_widths: tuple[int, int] = (256, 512)
    """Of the layers between the states and the draft of a picture."""

    def __post_init__(self) -> None:
        require(
            self.num_image_states >= 1,
            f"num_image_states is {self.num_image_states}; need 1 or more",
        )
        unit = self.vae.latent_pixels * self.dit.patch_side
        require(
            self.picture_side >= unit and self.picture_side % unit == 0,
            f"picture_side is {self.picture_side}; need a multiple of {unit}, the pixels that a "
            "token of the DiT stands for",
        )
        require(
            self.vae.latent_channels == self.dit.latent_channels,
            f"the autoencoder has {self.vae.latent_channels} latent channels, the DiT "
            f"{self.dit.latent_channels}; both must be the same",
        )

    @property
    def latent_side(self) -> int:
        """Of the latents of a picture."""
        return self.picture_side // self.vae.latent_pixels
