"""The stages that make a model speak: a codec of its own, and the talker that writes its codes.

    codec     sound to codes and back; with it an aligner that tells which letter is spoken when
    decoder   codes to sound alone: the codes stay, so this may go on beside the talker, or later
    talker    letters to codes, its feed-forward blocks dense
    experts   the same with several experts a block, each begun as the dense one; writes `speaker/`
    voice     only when asked for: one voice more, of the clips in `voice_clips/`

The language core has no part in them: the talker reads letters, not states.
Source: paper 2.4; design of the mini model (docs/sources.md#mini).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unimoe.config import SpeakerConfig, TimedTalkerConfig
from unimoe.errors import DataError, TrainingError
from unimoe.heads.mel_codec import MelCodec
from unimoe.heads.speaker import Speaker, read_speaker, spelt_out, write_speaker
from unimoe.heads.timed_talker import TimedTalker
from unimoe.tokens.spoken_form import spoken_form
from unimoe.train.follow_codec import follow_codec
from unimoe.train.learn_codec import LearningCodec, codec_evaluation, codec_objective
from unimoe.train.learn_talker import (
    Spoken,
    TalkerBatches,
    paired_codes,
    spoken_codes,
    start_from_codebook,
    take_dense,
    talker_objective,
)
from unimoe.train.plan import HeadPlan
from unimoe.train.readings import RandomReadings, Reading, loaded_batch
from unimoe.train.stages import HeadMaterial, Stage, apply_trained, trained_tensors

SPEAKER = "speaker"
"""Folder of what is exported."""
OWN_VOICE = "own"
"""What the voice of `voice_clips` is called."""
CLIPS = "voice_clips"
FORMER = "former_speaker"
"""Folder of what an earlier run exported, if this one is to go on from it: `codec` from its codec,
with an aligner anew, and `experts` from its talker instead of that of the stage `talker`, told
first which codes stand for its own."""
_NUM_HEARD = 24
"""Held-out sentences that are evaluated."""
_FEWEST_CLIPS = 20
_NUM_COMPARED = 2000
"""Training sentences that tell which code of a former codec stands for which of this one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechRecipe:
    """What a model's speech is made of."""

    config: SpeakerConfig
    readings: Callable[[Path, str], list[Reading]]
    """From the folder of the run and a split: recordings with their text, by `config`'s voices."""
    codec_plan: HeadPlan
    decoder_plan: HeadPlan
    talker_plan: HeadPlan
    experts_plan: HeadPlan
    voice_plan: HeadPlan

    def stages(self) -> Mapping[str, Stage[Any]]:
        """The stages, in their order."""
        return {
            "codec": Stage(
                caption="sound to codes and back",
                plan=self.codec_plan,
                material=self._codec_material,
            ),
            "decoder": Stage(
                caption="codes to sound",
                plan=self.decoder_plan,
                material=self._decoder_material,
            ),
            "talker": Stage(
                caption="letters to codes",
                plan=self.talker_plan,
                material=self._dense_material,
            ),
            "experts": Stage(
                caption="letters to codes, by several experts",
                plan=self.experts_plan,
                material=self._experts_material,
                finish=self._export,
            ),
            "voice": Stage(
                caption="one voice more",
                plan=self.voice_plan,
                material=self._voice_material,
                finish=_export_voice,
                is_extra=True,
            ),
        }

    def _codec_material(self, plan: HeadPlan, runs: Path) -> HeadMaterial:
        model = LearningCodec(self.config.codec)
        if (former := self._former(runs)) is not None:
            model.go_on_from(former.codec)
        return self._sound_material(model, plan, runs)

    def _decoder_material(self, plan: HeadPlan, runs: Path) -> HeadMaterial:
        model = LearningCodec(self.config.codec)
        apply_trained(model, runs / "codec")
        return self._sound_material(model, plan, runs)

    def _sound_material(self, model: LearningCodec, plan: HeadPlan, runs: Path) -> HeadMaterial:
        rate_hz = self.config.codec.sample_rate_hz
        heard = loaded_batch(self.readings(runs, "validation")[:_NUM_HEARD], rate_hz)
        readings = self.readings(runs, "train")
        return HeadMaterial(
            model=model,
            batch_of=RandomReadings(readings, plan.batch_size, rate_hz, plan.seed),
            objective=codec_objective,
            evaluation=lambda head: codec_evaluation(head, heard),
        )

    def _dense_material(self, plan: HeadPlan, runs: Path) -> HeadMaterial:
        config = self.config.talker
        dense = dataclasses.replace(config.talker, num_experts=1)
        model = TimedTalker(dataclasses.replace(config, talker=dense))
        start_from_codebook(model, self._learned_codec(runs).codec)
        spoken = self._spoken(runs)
        return _material_of(model, spoken["train"], spoken["validation"], plan)

    def _experts_material(self, plan: HeadPlan, runs: Path) -> HeadMaterial:
        model, spoken = TimedTalker(self.config.talker), self._spoken(runs)
        if (former := self._former(runs)) is not None:
            model.load_state_dict(former.talker.state_dict())
            compared = spoken["train"][:: max(1, len(spoken["train"]) // _NUM_COMPARED)]
            follow_codec(model.talker, *paired_codes(compared, former.codec))
        else:
            take_dense(model, trained_tensors(runs / "talker"))
        return _material_of(model, spoken["train"], spoken["validation"], plan)

    def _spoken(self, runs: Path) -> dict[str, list[Spoken]]:
        """Recordings by split, as codes of what `codec` learned."""
        learner = self._learned_codec(runs)
        codec, aligner = learner.codec, learner.aligner
        return {
            split: list(
                spoken_codes(
                    self.readings(runs, split),
                    codec,
                    aligner,
                    runs / "codec" / f"codes-{split}.safetensors",
                ).sentences()
            )
            for split in ("train", "validation")
        }

    def _voice_material(self, plan: HeadPlan, runs: Path) -> HeadMaterial:
        """The talker with one voice more, which begins as that which fits its clips best."""
        speaker, aligner = _finished_speaker(runs), self._learned_codec(runs).aligner
        readings = voice_clips(runs / CLIPS, OWN_VOICE)
        config = dataclasses.replace(
            speaker.config.talker, voices=(*speaker.config.talker.voices, OWN_VOICE)
        )
        kept = runs / "voice" / "codes.safetensors"
        kept.parent.mkdir(parents=True, exist_ok=True)
        spoken = list(spoken_codes(readings, speaker.codec, aligner, kept).sentences())
        held_out = max(1, len(spoken) // 10)
        like = nearest_voice(speaker.talker, spoken[:_NUM_HEARD])
        model = with_voice(speaker.talker, config, like)
        return _material_of(model, spoken[held_out:], spoken[:held_out], plan)

    def _former(self, runs: Path) -> Speaker | None:
        """What this run goes on from, if anything.

        Raises:
            TrainingError: it is of another size.
        """
        former = read_speaker(runs / FORMER)
        if former is not None and former.config != self.config:
            raise TrainingError(
                f"{runs / FORMER} holds a speaker of another configuration than this recipe's; "
                "take one that this recipe made, or remove the folder to begin anew"
            )
        return former

    def _learned_codec(self, runs: Path) -> LearningCodec:
        learner = LearningCodec(self.config.codec)
        apply_trained(learner, runs / "codec")
        apply_trained(learner, runs / "decoder", only=["codec.decoder.*"])
        return learner.eval()

    def _export(self, model: TimedTalker, runs: Path) -> None:
        _write_speaker(model, self._learned_codec(runs).codec, runs / SPEAKER)


def with_voice(talker: TimedTalker, config: TimedTalkerConfig, like: str) -> TimedTalker:
    """The same talker under a configuration with one voice more, which speaks as another does."""
    model = TimedTalker(config)
    model.load_state_dict(talker.state_dict())
    embeddings = model.talker.text_embedding.weight.data
    first = len(config.characters)
    embeddings[first + len(config.voices) - 1] = embeddings[first + config.voices.index(like)]
    return model


@torch.no_grad()
def nearest_voice(talker: TimedTalker, spoken: Sequence[Spoken]) -> str:
    """The voice of the talker to which these sentences are the likeliest."""
    losses = {}
    talker.eval()
    for voice in talker.config.voices:
        said = [each._replace(reading=each.reading._replace(voice=voice)) for each in spoken]
        batch = TalkerBatches(said, talker.config, len(said), 0)(0)
        losses[voice] = talker_objective(talker, batch).parts["codes"]
    return min(losses, key=losses.__getitem__)


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
        readings.append(Reading(path, spelt_out(spoken_form(text)), voice))
    if len(readings) < _FEWEST_CLIPS:
        raise DataError(f"{table}: {len(readings)} clips; need {_FEWEST_CLIPS} or more")
    return readings


def _material_of(
    model: TimedTalker, spoken: list[Spoken], held_out: list[Spoken], plan: HeadPlan
) -> HeadMaterial:
    heard = TalkerBatches(held_out, model.config, min(len(held_out), _NUM_HEARD), 0)(0)
    return HeadMaterial(
        model=model,
        batch_of=TalkerBatches(spoken, model.config, plan.batch_size, plan.seed),
        objective=talker_objective,
        evaluation=lambda talker: talker_objective(talker, heard).parts,
    )


def _finished_speaker(runs: Path) -> Speaker:
    speaker = read_speaker(runs / SPEAKER)
    if speaker is None:
        raise TrainingError(
            f"{runs / SPEAKER} holds no speaker; run stage 'experts' to its end first"
        )
    return speaker


def _export_voice(model: TimedTalker, runs: Path) -> None:
    _write_speaker(model, _finished_speaker(runs).codec, runs / "voice" / SPEAKER)


def _write_speaker(talker: TimedTalker, codec: MelCodec, directory: Path) -> None:
    config = SpeakerConfig(talker=talker.config, codec=codec.config)
    speaker = Speaker(config)
    speaker.talker, speaker.codec = talker, codec
    write_speaker(speaker, directory)
