"""The stages that make mini speak: a codec of its own, and the talker that writes its codes.

    codec     sound to codes and back; with it an aligner that tells which letter is spoken when
    talker    letters to codes, its feed-forward blocks dense
    experts   the same with four experts a block, each begun as the dense one
    voice     only when asked for: one voice more, from clips with their words (`voice_clips`)

The core has no part in them: the talker reads letters, not states.
Source: paper 2.4; design of the mini model (docs/sources.md#mini).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unimoe.config import MelCodecConfig, SpeakerConfig, TalkerConfig, TimedTalkerConfig
from unimoe.data.manifest import read_manifest
from unimoe.errors import DataError, TrainingError
from unimoe.heads.head_files import read_head, write_head
from unimoe.heads.mel_codec import MelCodec
from unimoe.heads.speaker import Speaker
from unimoe.heads.timed_talker import TimedTalker
from unimoe.parts import cache_directory
from unimoe.tokens.spoken_form import spoken_form
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
OWN_VOICE = "own"
CLIPS = "voice_clips"
_NUM_HEARD = 24
_FEWEST_CLIPS = 20


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
        "voice": Stage(
            caption="one voice more",
            plan=dataclasses.replace(_talker_plan(steps=300, lr=2e-4), evaluate_every=50),
            material=_voice_material,
            finish=_export_voice,
            is_extra=True,
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


def _voice_material(plan: HeadPlan, runs: Path) -> HeadMaterial:
    """The talker with one voice more, which begins as the first one's."""
    speaker, aligner = _finished_speaker(runs), _learned_codec(runs).aligner
    readings = voice_clips(runs / CLIPS, OWN_VOICE)
    config = talker_config(NUM_EXPERTS, (*speaker.voices, OWN_VOICE))
    model = TimedTalker(config)
    model.load_state_dict(speaker.talker.state_dict())
    embeddings = model.talker.text_embedding.weight.data
    first = len(config.characters)
    embeddings[first + len(speaker.voices)] = embeddings[first]
    kept = runs / "voice" / "codes.safetensors"
    kept.parent.mkdir(parents=True, exist_ok=True)
    own = list(spoken_codes(readings, speaker.codec, aligner, kept).sentences())
    held_out = max(1, len(own) // 10)
    heard = TalkerBatches(own[:held_out], config, min(held_out, _NUM_HEARD), 0)(0)
    return HeadMaterial(
        model=model,
        batch_of=TalkerBatches(own[held_out:], config, plan.batch_size, plan.seed),
        objective=talker_objective,
        evaluation=lambda talker: talker_objective(talker, heard).parts,
    )


def voice_clips(folder: Path, voice: str) -> list[Reading]:
    """Clips of one voice: `transcripts.tsv` holds a file name, a tab and what is said, a line each.

    Raises:
        DataError: there is no such file, a line is of another form, or a clip is missing.
    """
    table = folder / "transcripts.tsv"
    if not table.is_file():
        raise DataError(
            f"{table} is not there; a voice is learned from clips and this table of them: file "
            "name, tab, what is said, a line each"
        )
    readings = []
    for number, line in enumerate(table.read_text("utf-8").splitlines(), start=1):
        name, tab, text = line.partition("\t")
        path = folder / name
        if not tab or not text.strip() or not path.is_file():
            raise DataError(
                f"{table}, line {number}: {line[:60]!r}; need the name of a file beside the table, "
                "a tab, and what is said in it"
            )
        readings.append(Reading(path, spoken_form(text), voice))
    if len(readings) < _FEWEST_CLIPS:
        raise DataError(f"{table}: {len(readings)} clips; need {_FEWEST_CLIPS} or more")
    return readings


def _finished_speaker(runs: Path) -> Speaker:
    speaker = read_head(runs / SPEAKER, SPEAKER, SpeakerConfig, Speaker)
    if speaker is None:
        raise TrainingError(
            f"{runs / SPEAKER} holds no speaker; run stage 'experts' to its end first"
        )
    return speaker


def _export_voice(model: TimedTalker, runs: Path) -> None:
    codec = _finished_speaker(runs).codec
    _write_speaker(model, codec, runs / "voice" / SPEAKER)


def _codes_path(runs: Path, split: str) -> Path:
    return runs / "codec" / f"codes-{split}.safetensors"


def _learned_codec(runs: Path) -> LearningCodec:
    learner = LearningCodec(CODEC)
    apply_trained(learner, runs / "codec")
    return learner.eval()


def _export(model: TimedTalker, runs: Path) -> None:
    _write_speaker(model, _learned_codec(runs).codec, runs / SPEAKER)


def _write_speaker(talker: TimedTalker, codec: MelCodec, directory: Path) -> None:
    config = SpeakerConfig(talker=talker.config, codec=codec.config)
    speaker = Speaker(config)
    speaker.talker, speaker.codec = talker, codec
    write_head(speaker, config, directory, SPEAKER)
