"""What speaks: talkers that write codes, codecs that sound them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from unimoe.config.claims import require


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
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; need 1 or more")
        require(
            self.num_kv_heads >= 1 and self.num_heads % self.num_kv_heads == 0,
            f"num_heads {self.num_heads} is no multiple of num_kv_heads {self.num_kv_heads}",
        )
        require(
            self.hidden_size >= 1 and self.hidden_size % (2 * self.num_heads) == 0,
            f"hidden_size {self.hidden_size} is no multiple of twice num_heads {self.num_heads}",
        )
        require(self.num_experts >= 1, f"num_experts is {self.num_experts}; need 1 or more")
        require(
            self.capacity_factor is None or self.capacity_factor > 0,
            f"capacity_factor is {self.capacity_factor}; need more than 0, or None",
        )
        require(self.min_capacity >= 1, f"min_capacity is {self.min_capacity}; need 1 or more")

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
        require(
            self.talker.text_vocab_size >= needed,
            f"text_vocab_size is {self.talker.text_vocab_size}; need {needed} for "
            f"{len(self.characters)} characters and {len(self.voices)} voices",
        )
        require(len(self.voices) >= 1, "there is no voice; need one or more")


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
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; need 1 or more")
        require(
            len(self.strides) >= 1 and min(self.strides) >= 1,
            f"strides are {self.strides}; need at least one, each 1 or more",
        )
        require(self.num_filters >= 2, f"num_filters is {self.num_filters}; need 2 or more")
        require(
            self.hidden_size % 32 == 0,
            f"codec hidden_size is {self.hidden_size}; need a multiple of the 32 norm groups",
        )
        require(
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
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; need 1 or more")
        require(
            self.hidden_size % (2 * self.num_heads) == 0,
            f"codec hidden_size {self.hidden_size} is no multiple of twice num_heads "
            f"{self.num_heads}",
        )
        for name in ("window_samples", "mel_window_samples"):
            window = getattr(self, name)
            require(
                window >= self.hop_samples and (window - self.hop_samples) % 2 == 0,
                f"{name} is {window}; need at least the hop of {self.hop_samples}, and longer than "
                "it by an even number",
            )
        require(
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
        require(
            self.talker.talker.num_codes == self.codec.num_codes,
            f"the talker writes {self.talker.talker.num_codes} codes, the codec has "
            f"{self.codec.num_codes}",
        )
