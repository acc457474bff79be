"""The stages that make mini speak: a codec of its own, and the talker that writes its codes.

    codec     sound to codes and back; with it an aligner that tells which letter is spoken when
    talker    letters to codes, its feed-forward blocks dense
    experts   the same with four experts a block, each begun as the dense one

The core has no part in them: the talker reads letters, not states.
Source: paper 2.4; design of the mini model (docs/sources.md#mini).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unimoe.config import MelCodecConfig, SpeakerConfig, TalkerConfig, TimedTalkerConfig
from unimoe.data.manifest import read_manifest
from unimoe.heads.head_files import write_head
from unimoe.heads.speaker import Speaker
from unimoe.heads.timed_talker import TimedTalker
from unimoe.parts import cache_directory
from unimoe.train.learn_codec import LearningCodec, codec_evaluation, codec_objective
from unimoe.train.learn_talker import (
    TalkerBatches,
    spoken_codes,
    start_from_codebook,
    take_dense,
    talker_objective,
)
from unimoe.train.plan import GuardPlan, HeadPlan
from unimoe.train.readings import RandomReadings, Reading, loaded_batch, readings_of
from unimoe.train.stages import HeadMaterial, Stage, apply_trained, trained_tensors

CODEC = MelCodecConfig()
VOICES = ("hibari", "slt", "awb")
"""A clear American woman; a plainer one; a Scottish man. Named as the engines that taught them."""
NUM_EXPERTS = 4
SPEAKER = "speaker"
"""Name of the exported files."""
_NUM_HEARD = 24


def talker_config(num_experts: int, voices: tuple[str, ...] = VOICES) -> TimedTalkerConfig:
    """The talker: 6 layers of 256 channels."""
    return TimedTalkerConfig(
        talker=TalkerConfig(
            text_vocab_size=48,
            text_width=256,
            num_codes=CODEC.num_codes,
            hidden_size=256,
            num_layers=6,
            num_heads=4,
            num_kv_heads=2,
            num_experts=num_experts,
            expert_width=768,
        ),
        voices=voices,
    )


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
        "talker": Stage(
            caption="letters to codes",
            plan=_talker_plan(steps=4000, lr=1e-3),
            material=_dense_material,
        ),
        "experts": Stage(
            caption="letters to codes, by four experts",
            plan=_talker_plan(steps=1000, lr=4e-4),
            material=_experts_material,
            finish=_export,
        ),
    }


def _talker_plan(*, steps: int, lr: float) -> HeadPlan:
    return HeadPlan(
        steps=steps,
        batch_size=16,
        learns={"*": 1.0},
        lr=lr,
        warmup_steps=100,
        final_lr_fraction=0.03,
        save_every=100,
        evaluate_every=500,
    )


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


def _dense_material(plan: HeadPlan, runs: Path) -> HeadMaterial:
    learner = _learned_codec(runs)
    model = TimedTalker(talker_config(num_experts=1))
    start_from_codebook(model, learner.codec)
    return _talker_material(model, learner, plan, runs)


def _experts_material(plan: HeadPlan, runs: Path) -> HeadMaterial:
    model = TimedTalker(talker_config(NUM_EXPERTS))
    take_dense(model, trained_tensors(runs / "talker"))
    return _talker_material(model, _learned_codec(runs), plan, runs)


def _talker_material(
    model: TimedTalker, learner: LearningCodec, plan: HeadPlan, runs: Path
) -> HeadMaterial:
    codes = {
        split: list(
            spoken_codes(
                _readings(split), learner.codec, learner.aligner, _codes_path(runs, split)
            ).sentences()
        )
        for split in ("train", "validation")
    }
    heard = TalkerBatches(codes["validation"], model.config, _NUM_HEARD, 0)(0)
    return HeadMaterial(
        model=model,
        batch_of=TalkerBatches(codes["train"], model.config, plan.batch_size, plan.seed),
        objective=talker_objective,
        evaluation=lambda talker: talker_objective(talker, heard).parts,
    )


def _codes_path(runs: Path, split: str) -> Path:
    return runs / "codec" / f"codes-{split}.safetensors"


def _learned_codec(runs: Path) -> LearningCodec:
    learner = LearningCodec(CODEC)
    apply_trained(learner, runs / "codec")
    return learner.eval()


def _export(model: TimedTalker, runs: Path) -> None:
    config = SpeakerConfig(talker=model.config, codec=CODEC)
    speaker = Speaker(config)
    speaker.talker, speaker.codec = model, _learned_codec(runs).codec
    write_head(speaker, config, runs / SPEAKER, SPEAKER)
