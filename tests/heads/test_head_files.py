import json

import pytest
import torch
from heads.made_speakers import small_speaker
from safetensors.torch import load_file, save_file

from unimoe.config import SpeakerConfig
from unimoe.errors import CheckpointError
from unimoe.heads.head_files import read_head, write_head
from unimoe.heads.speaker import Speaker


def test_a_head_comes_back_as_it_was_within_int8_rows(tmp_path):
    speaker = small_speaker()
    write_head(speaker, speaker.config, tmp_path, "speaker")
    again = read_head(tmp_path, "speaker", SpeakerConfig, Speaker)
    assert again.config == speaker.config
    assert not again.training
    for name, value in speaker.state_dict().items():
        largest = value.abs().amax(-1, keepdim=True) if value.dim() > 1 else 0
        assert ((again.state_dict()[name] - value).abs() <= largest / 253 + 1e-6).all(), name


def test_a_directory_without_the_head_has_none(tmp_path):
    assert read_head(tmp_path, "speaker", SpeakerConfig, Speaker) is None


@pytest.fixture
def written(tmp_path):
    speaker = small_speaker()
    write_head(speaker, speaker.config, tmp_path, "speaker")
    return tmp_path


def test_half_a_head_is_refused(written):
    (written / "speaker.safetensors").unlink()
    with pytest.raises(CheckpointError):
        read_head(written, "speaker", SpeakerConfig, Speaker)


def test_a_missing_or_foreign_tensor_is_named(written):
    path = written / "speaker.safetensors"
    tensors = load_file(path)
    save_file({n: t for n, t in tensors.items() if n != "talker.clock.bias"}, path)
    with pytest.raises(CheckpointError, match=r"talker\.clock\.bias is None"):
        read_head(written, "speaker", SpeakerConfig, Speaker)
    save_file(tensors | {"talker.more": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"talker\.more is \[2\]"):
        read_head(written, "speaker", SpeakerConfig, Speaker)


def test_a_damaged_configuration_is_named(written):
    path = written / "speaker.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"pitch": 1}))
    with pytest.raises(CheckpointError, match="pitch"):
        read_head(written, "speaker", SpeakerConfig, Speaker)
