"""The tiny recipe goes through all stages, and its model answers."""

import dataclasses
import json
import shutil

import pytest
import torch

from unimoe.checkpoint.weights import load_model
from unimoe.config import SpeakerConfig
from unimoe.errors import ConfigError, DataError, TrainingError
from unimoe.heads.speaker import Speaker, read_speaker, write_speaker
from unimoe.recipes import stages_of
from unimoe.recipes.speech import voice_clips
from unimoe.train.stages import run_stages

SHORT = ["train.steps=1", "train.warmup_steps=0", "train.evaluate_every=0"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    outcomes = run_stages("tiny", stages_of("tiny"), folder, overrides=SHORT)
    assert [outcome.reason for outcome in outcomes] == ["finished"] * 14
    return folder


def test_every_stage_leaves_plan_journal_and_weights(trained):
    usual = [name for name, stage in stages_of("tiny").items() if not stage.is_extra]
    assert usual[-4:] == ["codec", "decoder", "talker", "experts"]
    for stage in usual:
        names = {path.name for path in (trained / stage).iterdir()}
        assert names >= {"run.json", "journal.jsonl", "trained.safetensors"}


def test_the_last_stage_leaves_a_whole_model(trained):
    assert load_model(trained / "checkpoint").config.core.moe is not None
    assert (trained / "checkpoint" / "tokenizer.json").exists()


def test_the_speaker_it_leaves_speaks_and_learns_a_voice_more(trained):
    speaker = read_speaker(trained / "speaker")
    assert list(speaker.sound(speaker.write("no.", voice="tone", seed=0)))
    clips = trained / "voice_clips"
    clips.mkdir()
    lines = []
    for number in range(24):
        name = f"{number}.flac"
        shutil.copyfile(trained / "sweeps" / f"train-{number % 4}.flac", clips / name)
        lines.append(f"{name}\tRoom {number % 10}.")
    (clips / "transcripts.tsv").write_text("\n".join(lines) + "\n")
    run_stages("tiny", stages_of("tiny"), trained, only="voice", overrides=SHORT)
    more = read_speaker(trained / "voice" / "speaker")
    assert more.voices == ("tone", "own")
    assert list(more.write("room.", voice="own", seed=0))


def test_codec_and_talker_go_on_from_those_of_a_former_speaker(trained, tmp_path):
    former, still = read_speaker(trained / "speaker"), [*SHORT, "train.lr=1e-9"]
    with torch.no_grad():  # or else one that begins anew, by the same seed, might pass for it
        for parameter in former.parameters():
            parameter.mul_(1.5)
    write_speaker(former, tmp_path / "former_speaker")
    for stage in ("codec", "decoder", "experts"):
        run_stages("tiny", stages_of("tiny"), tmp_path, only=stage, overrides=still)
    speaker = read_speaker(tmp_path / "speaker")
    for name in ("talker.layers.0.moe.down", "duration.0.weight"):
        found, was = (s.talker.get_parameter(name) for s in (speaker, former))
        _assert_all_but_same(found, was)
    _assert_all_but_same(*(s.codec.encoder.out.weight for s in (speaker, former)))


def _assert_all_but_same(found, was):
    torch.testing.assert_close(found, was, rtol=0, atol=0.02 * float(was.abs().max().detach()))


def test_a_former_speaker_of_another_size_is_refused(trained, tmp_path):
    speaker = read_speaker(trained / "speaker")
    config = dataclasses.replace(speaker.config.talker, voices=("tone", "bell"))
    other = Speaker(SpeakerConfig(talker=config, codec=speaker.config.codec))
    write_speaker(other, tmp_path / "former_speaker")
    with pytest.raises(TrainingError, match="former_speaker holds a speaker of another config"):
        run_stages("tiny", stages_of("tiny"), tmp_path, only="codec", overrides=SHORT)


def test_clips_without_their_words_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"transcripts\.tsv is not there"):
        voice_clips(tmp_path, "own")
    (tmp_path / "transcripts.tsv").write_text("a.wav\tHello.\n")
    with pytest.raises(DataError, match="line 1"):
        voice_clips(tmp_path, "own")


def test_stages_that_are_finished_are_passed_over(trained):
    again = run_stages("tiny", stages_of("tiny"), trained, overrides=SHORT, resume=True)
    assert {outcome.reason for outcome in again} == {"finished before"}


def test_overrides_reach_the_run(trained):
    run = json.loads((trained / "mixed" / "run.json").read_text())
    assert run["train"]["steps"] == 1


def test_a_stage_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="tiny has no stage 'polish'; there are connectors, "):
        run_stages("tiny", stages_of("tiny"), tmp_path, only="polish")


def test_a_stage_needs_those_before_it(tmp_path):
    with pytest.raises(TrainingError, match="run stage 'connectors' to its end first"):
        run_stages("tiny", stages_of("tiny"), tmp_path, only="text", overrides=SHORT)


def test_an_unknown_recipe_is_told():
    with pytest.raises(ConfigError, match="no recipe is called 'huge'"):
        stages_of("huge")
