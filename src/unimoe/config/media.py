"""What comes in: towers, connectors, frames of videos, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unimoe.config.claims import require

AUDIO_RATE_HZ = 16_000
AUDIO_GROUP_TOKENS = 20
AUDIO_GROUP_SECONDS = 3.0
IDS_PER_SECOND = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionConfig:
    """Image tower, aligner and tiling."""

    tower: Literal["siglip", "dinov2"] = "siglip"
    hidden_size: int
    num_layers: int
    """Layers that are run. The output is taken after the last of them: from SigLIP before its final
    norm (as released), from DINOv2 after it (as its features are meant)."""
    num_heads: int
    ffn_width: int
    image_side: int
    """Side of a tile in pixels."""
    patch_side: int
    layer_norm_eps: float = 1e-6
    hidden_act: str = "gelu_pytorch_tanh"
    pool_side: int
    """A tile becomes pool_side x pool_side windows, each a token or `tokens_per_window`."""
    tokens_per_window: int = 1
    """Side by side in the row of the window."""
    aligner_layers: int = 0
    """Layers of attention among the tokens of a tile, each made of all patches of its window; 0:
    the patches are aligned one by one and averaged, as released."""
    reads_class_state: bool = False
    """Every window also reads DINOv2's class state: what the tile shows as a whole."""
    colour_levels: int = 0
    """Beside the state of a patch stand the shares of its pixels near each colour of a cube of so
    many levels a channel; 0: none, as released."""
    detail_side: int = 0
    """Beside the state of a patch stand so many pixels along each of its sides, a power of two, in
    which a connector sees what the tower drops (`encoders/detail.py`); 0: none, as released."""
    speaks_words: bool = False
    """Embeddings become mixtures of the core's own (`encoders/soft_words.py`); False: they are
    read as they come out, as released."""
    min_tile_grid: tuple[int, int] = (1, 1)
    max_tile_grid: tuple[int, int] = (3, 3)
    """Tiles across and down an image may be cut into, smallest and largest."""
    pixel_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    pixel_std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        require(
            self.hidden_size % self.num_heads == 0,
            f"vision hidden_size {self.hidden_size} is no multiple of num_heads {self.num_heads}",
        )
        require(
            self.tower != "dinov2" or self.ffn_width % self.hidden_size == 0,
            f"vision ffn_width {self.ffn_width} is no multiple of hidden_size {self.hidden_size}, "
            f"as DINOv2 needs",
        )
        require(
            1 <= self.pool_side <= self.image_side // self.patch_side,
            f"pool_side is {self.pool_side}; need 1 to {self.image_side // self.patch_side}, "
            f"the patches along a tile",
        )
        require(
            not self.aligner_layers or self.patches_across % self.pool_side == 0,
            f"aligner_layers need a pool_side that divides the {self.patches_across} patches "
            f"along a tile; it is {self.pool_side}",
        )
        require(
            self.tokens_per_window == 1 or (self.aligner_layers > 0 and self.tokens_per_window > 1),
            f"tokens_per_window is {self.tokens_per_window}; need 1, or aligner_layers and more",
        )
        require(
            not self.reads_class_state or (self.aligner_layers > 0 and self.tower == "dinov2"),
            "reads_class_state needs aligner_layers and the tower dinov2",
        )
        require(
            not self.colour_levels or (self.aligner_layers > 0 and self.colour_levels > 1),
            f"colour_levels need aligner_layers, and two or more; they are {self.colour_levels}",
        )
        require(
            not self.detail_side
            or (
                self.aligner_layers > 0
                and self.detail_side > 1
                and self.detail_side.bit_count() == 1
            ),
            f"detail_side needs aligner_layers, and is a power of two; it is {self.detail_side}",
        )
        require(
            all(
                1 <= low <= high
                for low, high in zip(self.min_tile_grid, self.max_tile_grid, strict=True)
            ),
            f"tile grids from {self.min_tile_grid} to {self.max_tile_grid}: the range is empty",
        )

    @property
    def patches_across(self) -> int:
        """Patches along a side of a tile."""
        return self.image_side // self.patch_side

    @property
    def state_width(self) -> int:
        """Values of a state: the tower's, after them its colours, then its pixels."""
        return self.described_width + 3 * self.detail_side**2

    @property
    def described_width(self) -> int:
        """Values of a state without its pixels."""
        return self.hidden_size + self.colour_levels**3

    @property
    def states_per_tile(self) -> int:
        """Patches, after them the class state if it is read."""
        return self.patches_across**2 + self.reads_class_state

    @property
    def tokens_per_tile(self) -> int:
        """Length of a tile in the sequence, of an image or of a frame of a video."""
        return self.pool_side**2 * self.tokens_per_window


@dataclass(frozen=True, kw_only=True, slots=True)
class WriterConfig:
    """A frozen Whisper decoder that writes down what is said in a clip."""

    vocab_size: int
    """Of Whisper, control tokens included."""
    start: int
    """Token that every transcript begins with; from it on all are control tokens."""
    no_timestamps: int
    """Token that follows it."""
    end: int
    """Token that ends a transcript."""
    alignment_heads: tuple[tuple[int, int], ...]
    """(layer, head) of those whose attention to the sound follows what is being written."""
    max_pieces: int
    """Written of a clip and its context; more is a loop."""
    max_tokens_per_piece: int
    """Tokens of the core that one of Whisper's pieces may be; longer ones are not written."""
    num_silent_states: int
    """They stand for the silence up to Whisper's 30 seconds."""

    def __post_init__(self) -> None:
        controls = (self.start, self.no_timestamps, self.end)
        require(
            all(0 <= token < self.vocab_size for token in controls),
            f"start, no_timestamps and end are {controls}; need tokens below vocab_size "
            f"{self.vocab_size}",
        )
        for name in ("max_pieces", "max_tokens_per_piece", "num_silent_states"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; need 1 or more")
        require(len(self.alignment_heads) > 0, "alignment_heads is empty; need one or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioConfig:
    """Whisper encoder and the Whisper decoder that serves as Q-Former."""

    hidden_size: int
    encoder_layers: int
    decoder_layers: int
    num_heads: int
    ffn_width: int
    num_mel_bins: int
    max_source_positions: int
    """Encoder states of a clip: 50 a second."""
    max_target_positions: int
    vocab_size: int
    """Of the Whisper decoder; its token embedding is carried along but never used."""
    queries_per_clip: int = 200
    """20 tokens per 3 seconds."""
    projector_layers: int = 1
    """1: one linear map to the core's width; n: n linear maps with GELU between."""
    max_clips: int
    """Clips an audio may have; longer audio is refused."""
    context_seconds: float = 0.0
    """Sound on either side of a clip that its features hold too, so that no word at its border is
    cut in two; neighbouring clips overlap by twice as much."""
    timed_queries: bool = False
    """A query starts from the states of its own moment; otherwise from learned values alone."""
    speaks_words: bool = False
    """Embeddings become mixtures of the core's own (`encoders/soft_words.py`); False: they are
    read as they come out, as released."""
    writer: WriterConfig | None = None
    """Writes what is said into the queries' places (`encoders/written_words.py`); None: queries
    alone hear, as released."""

    def __post_init__(self) -> None:
        require(
            self.context_seconds >= 0 and 2 * self.context_frames < self.frames_per_clip,
            f"context_seconds is {self.context_seconds}; need 0 or more, and both sides together "
            f"less than the {self.frames_per_clip / 100:g} s of a clip's features",
        )
        require(
            self.queries_per_clip % AUDIO_GROUP_TOKENS == 0,
            f"queries_per_clip {self.queries_per_clip} is no multiple of {AUDIO_GROUP_TOKENS}",
        )
        require(
            self.queries_per_clip <= self.max_target_positions,
            f"queries_per_clip {self.queries_per_clip} exceeds max_target_positions "
            f"{self.max_target_positions}",
        )
        for layer, head in () if self.writer is None else self.writer.alignment_heads:
            require(
                0 <= layer < self.decoder_layers and 0 <= head < self.num_heads,
                f"writer.alignment_heads names layer {layer}, head {head}; there are "
                f"{self.decoder_layers} layers of {self.num_heads} heads",
            )

    @property
    def states_per_clip(self) -> int:
        """Encoder states of a clip, and one for each query's place if there is a writer."""
        return self.max_source_positions + (self.queries_per_clip if self.writer else 0)

    @property
    def frames_per_clip(self) -> int:
        """Mel frames of a clip's features, context included: the encoder halves them."""
        return 2 * self.max_source_positions

    @property
    def context_frames(self) -> int:
        """Mel frames of the context on one side, a whole number of encoder states."""
        return 2 * round(50 * self.context_seconds)

    @property
    def clip_frames(self) -> int:
        """Mel frames from the start of a clip to that of the next."""
        return self.frames_per_clip - 2 * self.context_frames


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoConfig:
    """How frames are chosen from a video."""

    frame_rate_fps: float = 1.0
    min_frames: int = 8
    max_frames: int = 64
    max_frames_with_audio: int = 32
    """Bound as soon as the prompt holds any audio; it replaces max_frames, as released."""
    frame_side: int | None = None
    """Frames are resized to this square before tiling; None keeps their shape."""

    def __post_init__(self) -> None:
        require(self.frame_rate_fps > 0, f"frame_rate_fps is {self.frame_rate_fps}; need > 0")
        require(
            min(self.max_frames, self.max_frames_with_audio) >= 2,
            f"max_frames {self.max_frames} / {self.max_frames_with_audio}; need 2 or more",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaLimits:
    """What is refused before it is decoded."""

    max_bytes: int = 512 * 1024**2
    max_pixels: int = 50_000_000
    """Of one image or one video frame."""
    max_aspect: float = 200.0
    """Longer side of an image over the shorter one."""
    max_seconds: float = 3600.0
    max_frames: int = 250_000
    """Frames a video may have before sampling."""
