import json

import pytest
import torch
from heads.made_speakers import small_speaker
from safetensors.torch import load_file, save_file

from unimoe.config import TimedTalkerConfig
from unimoe.errors import CheckpointError
from unimoe.heads.head_files import read_head, write_head
from unimoe.heads.speaker import read_speaker, write_speaker
from unimoe.heads.timed_talker import TimedTalker


def test_a_head_comes_back_as_it_was_within_int8_rows(tmp_path):
    speaker = small_speaker()
    write_head(speaker.talker, speaker.config.talker, tmp_path, "talker")
    again = read_head(tmp_path, "talker", TimedTalkerConfig, TimedTalker)
    assert again.config == speaker.config.talker
    assert not again.training
    for name, value in speaker.talker.state_dict().items():
        largest = value.abs().amax(-1, keepdim=True) if value.dim() > 1 else 0
        assert ((again.state_dict()[name] - value).abs() <= largest / 253 + 1e-6).all(), name


def test_a_directory_without_the_head_has_none(tmp_path):
    assert read_head(tmp_path, "talker", TimedTalkerConfig, TimedTalker) is None


@pytest.fixture
def written(tmp_path):
    speaker = small_speaker()
    write_head(speaker.talker, speaker.config.talker, tmp_path, "talker")
    return tmp_path


def test_half_a_head_is_refused(written):
    (written / "talker.safetensors").unlink()
    with pytest.raises(CheckpointError):
        read_head(written, "talker", TimedTalkerConfig, TimedTalker)


def test_a_missing_or_foreign_tensor_is_named(written):
    path = written / "talker.safetensors"
    tensors = load_file(path)
    save_file({n: t for n, t in tensors.items() if n != "clock.bias"}, path)
    with pytest.raises(CheckpointError, match=r"clock\.bias is None"):
        read_head(written, "talker", TimedTalkerConfig, TimedTalker)
    save_file(tensors | {"more": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"more is \[2\]"):
        read_head(written, "talker", TimedTalkerConfig, TimedTalker)


def test_a_damaged_configuration_is_named(written):
    path = written / "talker.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"pitch": 1}))
    with pytest.raises(CheckpointError, match="pitch"):
        read_head(written, "talker", TimedTalkerConfig, TimedTalker)


def test_a_speaker_is_talker_and_codec(tmp_path):
    assert read_speaker(tmp_path) is None
    speaker = small_speaker()
    write_speaker(speaker, tmp_path)
    again = read_speaker(tmp_path)
    assert again.config == speaker.config
    assert list(again.sound(again.write("go on.", voice="ann", seed=0)))
    (tmp_path / "codec.json").unlink()
    (tmp_path / "codec.safetensors").unlink()
    with pytest.raises(CheckpointError, match="a talker without a codec"):
        read_speaker(tmp_path)
