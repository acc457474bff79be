"""Configuration of the whole system: frozen values, checked when made, free of torch.

In: keyword arguments, or a plain dict (`from_dict`).  Out: `OmniConfig`.
A part of the model takes its own small config and never the whole one.
Source: paper section 1 and the released config fields (docs/sources.md#config).
"""

from unimoe.config.core import (
    CoreConfig,
    DropPolicy,
    GateGradient,
    MoEConfig,
    RouterConfig,
    RoutingRule,
)
from unimoe.config.drawing import (
    DRAWING_GUIDANCE,
    DRAWING_STEPS,
    DiTConfig,
    GuidanceConfig,
    PainterConfig,
    TaskDiTConfig,
    VAEConfig,
)
from unimoe.config.fields import from_dict, overridden, to_dict
from unimoe.config.media import (
    AUDIO_GROUP_SECONDS,
    AUDIO_GROUP_TOKENS,
    AUDIO_RATE_HZ,
    IDS_PER_SECOND,
    AudioConfig,
    MediaLimits,
    VideoConfig,
    VisionConfig,
    WriterConfig,
)
from unimoe.config.omni import OmniConfig, PositionRule, SpecialTokens
from unimoe.config.speech import (
    CodecConfig,
    MelCodecConfig,
    SpeakerConfig,
    TalkerConfig,
    TimedTalkerConfig,
)

__all__ = [
    "AUDIO_GROUP_SECONDS",
    "AUDIO_GROUP_TOKENS",
    "AUDIO_RATE_HZ",
    "DRAWING_GUIDANCE",
    "DRAWING_STEPS",
    "IDS_PER_SECOND",
    "AudioConfig",
    "CodecConfig",
    "CoreConfig",
    "DiTConfig",
    "DropPolicy",
    "GateGradient",
    "GuidanceConfig",
    "MediaLimits",
    "MelCodecConfig",
    "MoEConfig",
    "OmniConfig",
    "PainterConfig",
    "PositionRule",
    "RouterConfig",
    "RoutingRule",
    "SpeakerConfig",
    "SpecialTokens",
    "TalkerConfig",
    "TaskDiTConfig",
    "TimedTalkerConfig",
    "VAEConfig",
    "VideoConfig",
    "VisionConfig",
    "WriterConfig",
    "from_dict",
    "overridden",
    "to_dict",
]
