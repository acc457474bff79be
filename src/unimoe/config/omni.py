"""A whole model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from unimoe.config.core import CoreConfig
from unimoe.config.media import AudioConfig, VideoConfig, VisionConfig

PositionRule = Literal["paper", "released", "ordered"]


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
class OmniConfig:
    """A whole model: core, encoders, sequence rules."""

    core: CoreConfig
    vision: VisionConfig | None = None
    audio: AudioConfig | None = None
    video: VideoConfig = field(default_factory=VideoConfig)
    special_tokens: SpecialTokens
    position_rule: PositionRule = "paper"
    balance_weight: float = 0.025
    """Factor on the router balance loss; training schedules may override it per step."""
    z_loss_weight: float = 0.0
    """Factor on the router z-loss; 0 leaves it out, as the paper and the release do."""
