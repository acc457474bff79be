"""How mini speaks: a codec of 40 codes a second and a talker of 6 layers, for three voices."""

from __future__ import annotations

import dataclasses

from unimoe.config import MelCodecConfig, SpeakerConfig, TalkerConfig, TimedTalkerConfig
from unimoe.data.manifest import read_manifest
from unimoe.parts import cache_directory
from unimoe.recipes.speech import SpeechRecipe
from unimoe.train.plan import GuardPlan, HeadPlan
from unimoe.train.readings import Reading, readings_of

CODEC = MelCodecConfig()
VOICES = {"hibari": "american woman", "slt": "plain woman", "awb": "scottish man"}
"""Engines that read aloud -> what their voices are, which is how they are asked for."""
TALKER = TimedTalkerConfig(
    talker=TalkerConfig(
        text_vocab_size=48,
        text_width=256,
        num_codes=CODEC.num_codes,
        hidden_size=256,
        num_layers=6,
        num_heads=4,
        num_kv_heads=2,
        num_experts=4,
        expert_width=768,
    ),
    voices=tuple(VOICES.values()),
)


def mini_speech() -> SpeechRecipe:
    """Codec and talker of mini."""
    talker = HeadPlan(
        steps=4000,
        batch_size=16,
        learns={"*": 1.0},
        lr=1e-3,
        warmup_steps=100,
        final_lr_fraction=0.03,
        save_every=100,
        evaluate_every=500,
    )
    codec = HeadPlan(
        steps=6000,
        batch_size=8,
        learns={"codec.*": 1.0, "aligner.*": 1.0},
        lr=1e-3,
        warmup_steps=100,
        final_lr_fraction=0.02,
        save_every=200,
        evaluate_every=500,
        guard=GuardPlan(spike_factor=10.0),
    )
    return SpeechRecipe(
        config=SpeakerConfig(talker=TALKER, codec=CODEC),
        readings=lambda runs, split: _readings(split),
        codec_plan=codec,
        decoder_plan=dataclasses.replace(
            codec, steps=3000, learns={"codec.decoder.*": 1.0}, lr=6e-4
        ),
        talker_plan=talker,
        experts_plan=dataclasses.replace(talker, steps=1000, lr=4e-4),
        voice_plan=dataclasses.replace(talker, steps=300, lr=2e-4, evaluate_every=50),
    )


def _readings(split: str) -> list[Reading]:
    folder = cache_directory() / "data" / "mini" / "read_aloud"
    readings = readings_of(read_manifest(folder / f"{split}.jsonl"), set(VOICES))
    return [reading._replace(voice=VOICES[reading.voice]) for reading in readings]
