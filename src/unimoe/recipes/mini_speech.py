"""The stages that make mini speak: a codec of its own, and the talker that writes its codes.

    codec    sound to codes and back; with it an aligner that tells which letter is spoken when

The core has no part in them: the talker reads letters, not states.
Source: paper 2.4; design of the mini model (docs/sources.md#mini).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unimoe.config import MelCodecConfig
from unimoe.data.manifest import read_manifest
from unimoe.parts import cache_directory
from unimoe.train.learn_codec import LearningCodec, codec_evaluation, codec_objective
from unimoe.train.plan import GuardPlan, HeadPlan
from unimoe.train.readings import RandomReadings, Reading, loaded_batch, readings_of
from unimoe.train.stages import HeadMaterial, Stage

CODEC = MelCodecConfig()
_NUM_HEARD = 24


def speech_stages() -> Mapping[str, Stage[Any]]:
    """The stages, in their order."""
    return {
        "codec": Stage(
            caption="sound to codes and back",
            plan=HeadPlan(
                steps=6000,
                batch_size=8,
                learns={"codec.*": 1.0, "aligner.*": 1.0},
                lr=1e-3,
                warmup_steps=100,
                final_lr_fraction=0.02,
                save_every=200,
                evaluate_every=500,
                guard=GuardPlan(spike_factor=10.0),
            ),
            material=_codec_material,
        ),
    }


def _codec_material(plan: HeadPlan, runs: Path) -> HeadMaterial:
    rate_hz = CODEC.sample_rate_hz
    heard = loaded_batch(_readings("validation")[:_NUM_HEARD], rate_hz)
    return HeadMaterial(
        model=LearningCodec(CODEC),
        batch_of=RandomReadings(_readings("train"), plan.batch_size, rate_hz, plan.seed),
        objective=codec_objective,
        evaluation=lambda head: codec_evaluation(head, heard),
    )


def _readings(split: str) -> list[Reading]:
    folder = cache_directory() / "data" / "mini" / "read_aloud"
    return readings_of(read_manifest(folder / f"{split}.jsonl"))
