"""Configuration of the whole system: frozen values, checked when made, free of torch.

In: keyword arguments, or a plain dict (`from_dict`).  Out: `OmniConfig`.
A part of the model takes its own small config and never the whole one.
Source: paper section 1 and the released config fields (docs/sources.md#config).
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from unimoe.errors import ConfigError

AUDIO_RATE_HZ = 16_000
AUDIO_GROUP_TOKENS = 20
AUDIO_GROUP_SECONDS = 3.0
IDS_PER_SECOND = 2.0

RoutingRule = Literal["paper", "released"]
PositionRule = Literal["paper", "released", "ordered"]
GateGradient = Literal["deterministic", "sampled"]
DropPolicy = Literal["probs", "position"]


def _require(claim: bool, message: str) -> None:
    if not claim:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class RouterConfig:
    """Which experts a token takes, and how the router learns.

    Columns of the router, in this order: routed, null, shared; the first two are the dynamic ones.
    """

    num_routed: int = 4
    num_null: int = 1
    """Experts that return zero and cost nothing; their weight is lost to the token."""
    num_shared: int = 2
    """Experts every token takes; they share the softmax with the selected ones."""
    top_p: float | None = 0.7
    """Take the likeliest dynamic experts until their probability reaches this; None: `top_k`."""
    top_k: int | None = None
    """Take exactly this many dynamic experts; None: `top_p`."""
    rule: RoutingRule = "paper"
    gate_gradient: GateGradient = "deterministic"
    """`sampled`: in training experts are drawn, with the gradient estimator of the rule."""
    near_tie: float = 0.01
    """`released` only: experts within twice this relative gap of the best share its weight."""
    input_jitter: float = 0.0
    """Training only: the router sees its input times U(1 - jitter, 1 + jitter)."""
    fp32_in_training: bool = True
    """Router logits in float32 while training; in evaluation they have the model's dtype."""
    drop_policy: DropPolicy | None = None
    """`released` only: None drops nothing; otherwise how experts over capacity choose tokens."""
    capacity_factor: float = 1.0
    min_capacity: int = 8
    null_balance: float = 1.0
    """Weight of the null columns in the balance loss; below 1 more tokens go there (MoE++)."""

    def __post_init__(self) -> None:
        _require(self.num_routed >= 1, f"num_routed is {self.num_routed}; need at least 1")
        _require(self.num_null >= 0, f"num_null is {self.num_null}; need 0 or more")
        _require(self.num_shared >= 0, f"num_shared is {self.num_shared}; need 0 or more")
        _require(
            (self.top_p is None) != (self.top_k is None),
            f"top_p={self.top_p} and top_k={self.top_k}: give exactly one, the other as None",
        )
        if self.top_p is not None:
            _require(0.0 < self.top_p <= 1.0, f"top_p is {self.top_p}; need 0 < top_p <= 1")
        if self.top_k is not None:
            _require(
                1 <= self.top_k <= self.num_dynamic,
                f"top_k is {self.top_k}; need 1 to {self.num_dynamic} (routed + null)",
            )
        _require(0.0 <= self.near_tie < 1.0, f"near_tie is {self.near_tie}; need 0 to 1")
        _require(
            0.0 <= self.input_jitter < 1.0, f"input_jitter is {self.input_jitter}; need 0 to 1"
        )
        _require(self.capacity_factor > 0, f"capacity_factor is {self.capacity_factor}; need > 0")
        _require(self.min_capacity >= 1, f"min_capacity is {self.min_capacity}; need 1 or more")
        _require(self.null_balance >= 0, f"null_balance is {self.null_balance}; need 0 or more")
        _require(
            self.drop_policy is None or self.rule == "released",
            f"drop_policy={self.drop_policy!r} exists under rule='released' only; set it to None",
        )

    @property
    def num_dynamic(self) -> int:
        """Routed and null columns: what top-p chooses among."""
        return self.num_routed + self.num_null

    @property
    def num_columns(self) -> int:
        """Width of the router."""
        return self.num_dynamic + self.num_shared


@dataclass(frozen=True, kw_only=True, slots=True)
class MoEConfig:
    """One dynamic-capacity MoE layer."""

    router: RouterConfig = dataclasses.field(default_factory=RouterConfig)
    routed_width: int
    """Inner width of a routed SwiGLU expert."""
    shared_width: int
    """Inner width of a shared one; the paper takes an eighth of a routed one."""
    delta_rank: int | None = None
    """None: every expert has matrices of its own. Otherwise all share one dense block of
    `routed_width` and add deltas of this rank; shared experts are slices of its channels."""

    def __post_init__(self) -> None:
        _require(
            self.delta_rank is None or self.delta_rank >= 1,
            f"delta_rank is {self.delta_rank}; need 1 or more, or None",
        )
        _require(
            self.delta_rank is None
            or self.router.num_shared * self.shared_width <= self.routed_width,
            f"{self.router.num_shared} shared experts of {self.shared_width} channels do not fit "
            f"into the {self.routed_width} of the dense block whose slices they are",
        )
        _require(self.routed_width >= 1, f"routed_width is {self.routed_width}; need 1 or more")
        _require(self.shared_width >= 1, f"shared_width is {self.shared_width}; need 1 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class CoreConfig:
    """The language core: a decoder of Qwen2 or Llama shape, dense or MoE."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_width: int
    """Inner width of the dense feed-forward block; what upcycling copies from."""
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1e6
    rope_sections: tuple[int, int, int]
    """Channel pairs that turn with time, height and width; their sum is head_dim / 2."""
    has_qkv_bias: bool = True
    ties_embeddings: bool = False
    max_positions: int = 32_768
    """Longest sequence the weights were made for; longer requests are refused."""
    moe: MoEConfig | None = None
    """None: every layer keeps its dense feed-forward block."""
    dense_layers: tuple[int, ...] = ()
    """Layers that keep it although `moe` is given."""
    attention_delta_rank: int | None = None
    """Rank of what is learned beside the maps of attention, for all tokens alike; None: nothing."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_layers", "num_kv_heads", "ffn_width"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; need 1 or more")
        _require(
            self.num_heads % self.num_kv_heads == 0,
            f"num_heads {self.num_heads} is no multiple of num_kv_heads {self.num_kv_heads}",
        )
        _require(
            2 * sum(self.rope_sections) == self.head_dim and min(self.rope_sections) >= 0,
            f"rope_sections {self.rope_sections} must add up to half of head_dim {self.head_dim}",
        )
        _require(
            all(0 <= layer < self.num_layers for layer in self.dense_layers)
            and (self.moe is not None or not self.dense_layers),
            f"dense_layers {self.dense_layers} names layers of 0 to {self.num_layers - 1} beside "
            "an MoE; leave it empty for a dense model",
        )


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
    """Of a window in an image, side by side; frames of videos have their mean, one a window."""
    aligner_layers: int = 0
    """Layers of attention among the tokens of a tile, each made of all patches of its window; 0:
    the patches are aligned one by one and averaged, as released."""
    reads_class_state: bool = False
    """Every window also reads DINOv2's class state: what the tile shows as a whole."""
    colour_levels: int = 0
    """Beside the state of a patch stand the shares of its pixels near each colour of a cube of so
    many levels a channel; 0: none, as released."""
    speaks_words: bool = False
    """Embeddings become mixtures of the core's own (`encoders/soft_words.py`); False: they are
    read as they come out, as released."""
    min_tile_grid: tuple[int, int] = (1, 1)
    max_tile_grid: tuple[int, int] = (3, 3)
    """Tiles across and down an image may be cut into, smallest and largest."""
    pixel_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    pixel_std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        _require(
            self.hidden_size % self.num_heads == 0,
            f"vision hidden_size {self.hidden_size} is no multiple of num_heads {self.num_heads}",
        )
        _require(
            self.tower != "dinov2" or self.ffn_width % self.hidden_size == 0,
            f"vision ffn_width {self.ffn_width} is no multiple of hidden_size {self.hidden_size}, "
            f"as DINOv2 needs",
        )
        _require(
            1 <= self.pool_side <= self.image_side // self.patch_side,
            f"pool_side is {self.pool_side}; need 1 to {self.image_side // self.patch_side}, "
            f"the patches along a tile",
        )
        _require(
            not self.aligner_layers or self.patches_across % self.pool_side == 0,
            f"aligner_layers need a pool_side that divides the {self.patches_across} patches "
            f"along a tile; it is {self.pool_side}",
        )
        _require(
            self.tokens_per_window == 1 or (self.aligner_layers > 0 and self.tokens_per_window > 1),
            f"tokens_per_window is {self.tokens_per_window}; need 1, or aligner_layers and more",
        )
        _require(
            not self.reads_class_state or (self.aligner_layers > 0 and self.tower == "dinov2"),
            "reads_class_state needs aligner_layers and the tower dinov2",
        )
        _require(
            not self.colour_levels or (self.aligner_layers > 0 and self.colour_levels > 1),
            f"colour_levels need aligner_layers, and two or more; they are {self.colour_levels}",
        )
        _require(
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
        """Values of a state: the tower's, after them its colours."""
        return self.hidden_size + self.colour_levels**3

    @property
    def states_per_tile(self) -> int:
        """Patches, after them the class state if it is read."""
        return self.patches_across**2 + self.reads_class_state

    @property
    def tokens_per_tile(self) -> int:
        """Length of a tile of an image in the sequence."""
        return self.pool_side**2 * self.tokens_per_window

    @property
    def tokens_per_frame_tile(self) -> int:
        """Length of a tile of a frame of a video."""
        return self.pool_side**2


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

    def __post_init__(self) -> None:
        _require(
            self.context_seconds >= 0 and 2 * self.context_frames < self.frames_per_clip,
            f"context_seconds is {self.context_seconds}; need 0 or more, and both sides together "
            f"less than the {self.frames_per_clip / 100:g} s of a clip's features",
        )
        _require(
            self.queries_per_clip % AUDIO_GROUP_TOKENS == 0,
            f"queries_per_clip {self.queries_per_clip} is no multiple of {AUDIO_GROUP_TOKENS}",
        )
        _require(
            self.queries_per_clip <= self.max_target_positions,
            f"queries_per_clip {self.queries_per_clip} exceeds max_target_positions "
            f"{self.max_target_positions}",
        )

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
class TalkerConfig:
    """The talker: a decoder with top-2 experts that writes codec codes; defaults as published."""

    text_vocab_size: int = 151_936
    """Of its own, frozen text embeddings; the ids are those of the language core."""
    text_width: int = 2048
    num_codes: int = 4096
    """Of the codec; nine control codes follow them."""
    hidden_size: int = 896
    num_layers: int = 24
    num_heads: int = 14
    num_kv_heads: int = 2
    num_experts: int = 4
    """1: dense."""
    expert_width: int = 4864
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    capacity_factor: float | None = None
    """Without a cache an expert keeps at most this many times its even share of the choices; None
    drops nothing. The release trains with 1.5 and evaluates with 1.0."""
    min_capacity: int = 4
    """Choices an expert keeps at least."""
    samples_second_expert: bool = False
    """Training only: the second expert is drawn instead of taken, as released."""

    def __post_init__(self) -> None:
        for name in ("text_vocab_size", "text_width", "num_codes", "num_layers", "expert_width"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; need 1 or more")
        _require(
            self.num_kv_heads >= 1 and self.num_heads % self.num_kv_heads == 0,
            f"num_heads {self.num_heads} is no multiple of num_kv_heads {self.num_kv_heads}",
        )
        _require(
            self.hidden_size >= 1 and self.hidden_size % (2 * self.num_heads) == 0,
            f"hidden_size {self.hidden_size} is no multiple of twice num_heads {self.num_heads}",
        )
        _require(self.num_experts >= 1, f"num_experts is {self.num_experts}; need 1 or more")
        _require(
            self.capacity_factor is None or self.capacity_factor > 0,
            f"capacity_factor is {self.capacity_factor}; need more than 0, or None",
        )
        _require(self.min_capacity >= 1, f"min_capacity is {self.min_capacity}; need 1 or more")

    @property
    def head_dim(self) -> int:
        """Channels of an attention head."""
        return self.hidden_size // self.num_heads


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedTalkerConfig:
    """The talker of mini: what it reads, and the voices it has."""

    talker: TalkerConfig
    voices: tuple[str, ...]
    """Names; each is one id of the text vocabulary, behind the characters."""
    characters: str = " '-.,?!abcdefghijklmnopqrstuvwxyz"
    """What can be said, in the order of its ids."""

    def __post_init__(self) -> None:
        needed = len(self.characters) + len(self.voices)
        _require(
            self.talker.text_vocab_size >= needed,
            f"text_vocab_size is {self.talker.text_vocab_size}; need {needed} for "
            f"{len(self.characters)} characters and {len(self.voices)} voices",
        )
        _require(len(self.voices) >= 1, "there is no voice; need one or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class CodecConfig:
    """The codec WavTokenizer; defaults are those of the large one with 40 codes a second."""

    sample_rate_hz: int = 24_000
    num_codes: int = 4096
    code_width: int = 512
    """Channels of a codebook row, which are those of the encoder's output."""
    num_filters: int = 32
    """Channels of the encoder at the full sample rate; every stride doubles them."""
    strides: tuple[int, ...] = (4, 5, 5, 6)
    """Of the encoder, sound side first; their product is the hop."""
    lstm_layers: int = 2
    hidden_size: int = 768
    ffn_width: int = 2304
    num_layers: int = 12
    num_bandwidths: int = 4
    """Rows of every adaptive norm; the published models use row 0."""
    window_samples: int = 2400
    """Of the inverse Fourier transform."""

    def __post_init__(self) -> None:
        for name in ("sample_rate_hz", "num_codes", "code_width", "num_bandwidths"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; need 1 or more")
        _require(
            len(self.strides) >= 1 and min(self.strides) >= 1,
            f"strides are {self.strides}; need at least one, each 1 or more",
        )
        _require(self.num_filters >= 2, f"num_filters is {self.num_filters}; need 2 or more")
        _require(
            self.hidden_size % 32 == 0,
            f"codec hidden_size is {self.hidden_size}; need a multiple of the 32 norm groups",
        )
        _require(
            self.window_samples >= self.hop_samples
            and (self.window_samples - self.hop_samples) % 2 == 0
            and self.window_samples % 2 == 0,
            f"window_samples is {self.window_samples}; need an even number, longer than the hop of "
            f"{self.hop_samples} by an even one",
        )

    @property
    def hop_samples(self) -> int:
        """Samples of a code."""
        return math.prod(self.strides)


@dataclass(frozen=True, kw_only=True, slots=True)
class MelCodecConfig:
    """The codec of mini: a log-mel spectrum to codes, and codes to sound; in pieces too."""

    sample_rate_hz: int = 24_000
    num_codes: int = 4096
    code_width: int = 64
    """Channels of a codebook row."""
    hop_samples: int = 150
    """Between spectra; a code spans `frames_per_code` of them."""
    frames_per_code: int = 4
    num_mel_bins: int = 80
    mel_range_hz: tuple[float, float] = (50.0, 8000.0)
    """What the encoder hears. Sound of 16 and of 24 kHz looks alike to it."""
    fine_width: int = 160
    """Channels at the rate of spectra."""
    fine_layers: tuple[int, int] = (2, 4)
    """ConvNeXt blocks at that rate, of encoder and decoder."""
    hidden_size: int = 320
    """Channels at the rate of codes."""
    num_layers: tuple[int, int] = (3, 6)
    """ConvNeXt blocks at that rate, of encoder and decoder."""
    ffn_factor: int = 3
    num_heads: int = 5
    attention_reach: int = 16
    """Codes that the decoder's attention sees to either side; what bounds how much a piece of
    sound must know of its neighbours."""
    window_samples: int = 600
    """Of the decoder's inverse Fourier transform."""
    mel_window_samples: int = 1024

    def __post_init__(self) -> None:
        for name in ("sample_rate_hz", "num_codes", "code_width", "hop_samples", "num_mel_bins"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; need 1 or more")
        _require(
            self.hidden_size % (2 * self.num_heads) == 0,
            f"codec hidden_size {self.hidden_size} is no multiple of twice num_heads "
            f"{self.num_heads}",
        )
        for name in ("window_samples", "mel_window_samples"):
            window = getattr(self, name)
            _require(
                window >= self.hop_samples and (window - self.hop_samples) % 2 == 0,
                f"{name} is {window}; need at least the hop of {self.hop_samples}, and longer than "
                "it by an even number",
            )
        _require(
            0 <= self.mel_range_hz[0] < self.mel_range_hz[1] <= self.sample_rate_hz / 2,
            f"mel_range_hz is {self.mel_range_hz}; need a rising pair up to half the sample rate",
        )

    @property
    def samples_per_code(self) -> int:
        """Samples of a code."""
        return self.hop_samples * self.frames_per_code

    @property
    def codes_per_second(self) -> float:
        """Codes of a second of sound."""
        return self.sample_rate_hz / self.samples_per_code


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeakerConfig:
    """The speech head of mini."""

    talker: TimedTalkerConfig
    codec: MelCodecConfig

    def __post_init__(self) -> None:
        _require(
            self.talker.talker.num_codes == self.codec.num_codes,
            f"the talker writes {self.talker.talker.num_codes} codes, the codec has "
            f"{self.codec.num_codes}",
        )


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
        _require(self.frame_rate_fps > 0, f"frame_rate_fps is {self.frame_rate_fps}; need > 0")
        _require(
            min(self.max_frames, self.max_frames_with_audio) >= 2,
            f"max_frames {self.max_frames} / {self.max_frames_with_audio}; need 2 or more",
        )


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
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; need 1 or more")
        _require(
            self.num_heads % self.num_kv_heads == 0,
            f"num_heads {self.num_heads} is no multiple of num_kv_heads {self.num_kv_heads}",
        )
        _require(
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
        _require(
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
        _require(self.num_steps >= 1, f"num_steps is {self.num_steps}; need 1 or more")
        _require(
            self.guided_channels >= 0,
            f"guided_channels is {self.guided_channels}; need 0 or more",
        )
        _require(
            self.base_tokens is None or self.base_tokens >= 2,
            f"base_tokens is {self.base_tokens}; need 2 or more, or None",
        )


DRAWING_STEPS, DRAWING_GUIDANCE = 15, 2.0
"""How mini draws unless it is told otherwise: steps of Heun's method, scale of the words."""


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
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; need 1 or more")
        _require(len(self.widths) >= 1, "widths is empty; need the channels of one level or more")
        for width in self.widths:
            _require(
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
        _require(
            self.num_image_states >= 1,
            f"num_image_states is {self.num_image_states}; need 1 or more",
        )
        unit = self.vae.latent_pixels * self.dit.patch_side
        _require(
            self.picture_side >= unit and self.picture_side % unit == 0,
            f"picture_side is {self.picture_side}; need a multiple of {unit}, the pixels that a "
            "token of the DiT stands for",
        )
        _require(
            self.vae.latent_channels == self.dit.latent_channels,
            f"the autoencoder has {self.vae.latent_channels} latent channels, the DiT "
            f"{self.dit.latent_channels}; both must be the same",
        )

    @property
    def latent_side(self) -> int:
        """Of the latents of a picture."""
        return self.picture_side // self.vae.latent_pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecialTokens:
    """Ids of the tokens the code itself reads or writes; None: the checkpoint has no such token."""

    pad: int
    end_of_turn: int
    vision_start: int | None = None
    vision_end: int | None = None
    image_pad: int | None = None
    video_pad: int | None = None
    audio_start: int | None = None
    audio_end: int | None = None
    audio_pad: int | None = None
    speech_start: int | None = None
    speech_end: int | None = None
    speech_prompt: int | None = None
    speech_split: int | None = None


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


@dataclass(frozen=True, kw_only=True, slots=True)
class OmniConfig:
    """A whole model: core, encoders, sequence rules."""

    core: CoreConfig
    vision: VisionConfig | None = None
    audio: AudioConfig | None = None
    video: VideoConfig = dataclasses.field(default_factory=VideoConfig)
    special_tokens: SpecialTokens
    position_rule: PositionRule = "paper"
    balance_weight: float = 0.025
    """Factor on the router balance loss; training schedules may override it per step."""
    z_loss_weight: float = 0.0
    """Factor on the router z-loss; 0 leaves it out, as the paper and the release do."""


Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """Plain nested dict of a config, ready for JSON: tuples become lists."""
    return typing.cast("dict[str, Any]", json.loads(json.dumps(dataclasses.asdict(config))))


def from_dict(config_type: type[Config], values: Mapping[str, Any], path: str = "") -> Config:
    """A config from a plain dict, strictly.

    Raises:
        ConfigError: an unknown field (the nearest known one is named), a missing one, a value of
            the wrong type or out of range; the message holds the dotted path of the field.
    """
    hints = typing.get_type_hints(config_type)
    for name in values:
        if name not in hints:
            raise ConfigError(_unknown_field(_join(path, name), name, list(hints)))
    converted = {
        name: _convert(hints[name], value, _join(path, name)) for name, value in values.items()
    }
    try:
        return config_type(**converted)
    except TypeError as error:
        missing = [
            field.name
            for field in dataclasses.fields(config_type)  # type: ignore[arg-type]
            if field.name not in values
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        ]
        where = path or config_type.__name__
        raise ConfigError(f"{where} lacks {', '.join(missing)}; every one must be given") from error


def overridden(config: Config, assignments: Sequence[str], *, root: str) -> Config:
    """A config with fields replaced by `root.field=value` words, checked as when it was made.

    A value is JSON (`3e-4`, `[0.9, 0.99]`, `true`, `null`), anything else a string; a name of a
    group of values (`train.mixture.speech=2`) is a field too.

    Raises:
        ConfigError: no assignment, another root, an unknown field or an impossible value.
    """
    values = to_dict(config)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        path = name.strip().split(".")
        if not equals or len(path) < 2:
            raise ConfigError(f"{assignment!r} sets nothing; write as in {root}.field=value")
        _require(path[0] == root, f"{name}: no such group; did you mean {root!r}?")
        group: Any = values
        for depth, key in enumerate(path[1:-1], start=1):
            where = ".".join(path[: depth + 1])
            if key not in group:
                raise ConfigError(_unknown_field(where, key, list(group)))
            group = group[key]
            _require(isinstance(group, dict), f"{where} is a single value; it has no fields")
        try:
            group[path[-1]] = json.loads(text)
        except ValueError:
            group[path[-1]] = text
    return from_dict(type(config), values, root)


def _unknown_field(where: str, name: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"{where}: no such field{hint}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _convert(hint: Any, value: Any, where: str) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        if value is None and len(options) < len(typing.get_args(hint)):
            return None
        return _convert(options[0], value, where)
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        _require(value in choices, f"{where} is {value!r}; need one of {', '.join(choices)}")
        return value
    if typing.get_origin(hint) is tuple:
        members = typing.get_args(hint)
        _require(isinstance(value, list | tuple), f"{where} is {value!r}; need several values")
        if members[-1] is Ellipsis:
            members = members[:1] * len(value)
        _require(
            len(value) == len(members),
            f"{where} is {value!r}; need {len(members)} values",
        )
        return tuple(_convert(m, v, where) for m, v in zip(members, value, strict=True))
    if typing.get_origin(hint) is Mapping:
        _require(isinstance(value, dict), f"{where} is {value!r}; need names with values")
        member = typing.get_args(hint)[1]
        return {name: _convert(member, v, _join(where, name)) for name, v in value.items()}
    if dataclasses.is_dataclass(hint):
        _require(isinstance(value, Mapping), f"{where} is {value!r}; need a group of fields")
        return from_dict(typing.cast("type[Any]", hint), value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    _require(
        isinstance(value, hint) and not (hint is int and isinstance(value, bool)),
        f"{where} is {value!r}; need {hint.__name__}",
    )
    return value
