from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.heads.made_codecs import RECORDED, codec_directory
from unimoe.config import CodecConfig
from unimoe.errors import CheckpointError
from unimoe.heads.codec import Codec
from unimoe.heads.codec_weights import codec_slots, load_codec

ENCODER = "feature_extractor.encodec.encoder.model"


def changed(directory: Path, add: dict[str, Tensor], drop: tuple[str, ...] = ()) -> Path:
    path = codec_directory(directory) / "model.safetensors"
    kept = {key: value for key, value in load_file(path).items() if key not in drop}
    save_file(kept | add, path)
    return directory


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    directory = changed(tmp_path, {}, (f"{ENCODER}.15.conv.conv.weight_g",))
    with pytest.raises(CheckpointError, match=r"1 missing .*\n  .*15\.conv\.conv\.weight_g"):
        load_codec(directory, RECORDED)


def test_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    directory = changed(tmp_path, {"backbone.pos_net.6.weight": torch.ones(64)})
    with pytest.raises(CheckpointError, match=r"1 unexpected .*\n  backbone\.pos_net\.6\.weight"):
        load_codec(directory, RECORDED)


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    directory = changed(tmp_path, {"head.out.bias": torch.ones(240)})
    with pytest.raises(CheckpointError, match=r"head\.out\.bias: need \[242\], found \[240\]"):
        load_codec(directory, RECORDED)


def test_a_tensor_of_whole_numbers_is_refused(tmp_path: Path) -> None:
    directory = changed(tmp_path, {"head.out.bias": torch.ones(242, dtype=torch.int8)})
    with pytest.raises(CheckpointError, match=r"head\.out\.bias: need a floating-point type"):
        load_codec(directory, RECORDED)


def test_critics_of_its_training_are_passed_over(tmp_path: Path) -> None:
    directory = changed(tmp_path, {"multiresddisc.discriminators.0.bias": torch.ones(2)})
    assert isinstance(load_codec(directory, RECORDED), Codec)


def test_a_pickle_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "wavtokenizer_large_unify_600_24k.ckpt").write_bytes(b"\x80\x02.")
    with pytest.raises(CheckpointError, match="only as pickle"):
        load_codec(tmp_path, RECORDED)


def test_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"the codec in .* is not what its configuration"):
        load_codec(codec_directory(tmp_path), CodecConfig())


def test_weight_norm_is_undone_as_torch_would(tmp_path: Path) -> None:
    stored = load_file(codec_directory(tmp_path) / "model.safetensors")
    normed = nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 6, 10, stride=5))
    normed.parametrizations.weight.original0.data = stored[f"{ENCODER}.3.conv.conv.weight_g"]
    normed.parametrizations.weight.original1.data = stored[f"{ENCODER}.3.conv.conv.weight_v"]
    loaded = load_codec(tmp_path, RECORDED)
    torch.testing.assert_close(loaded.encoder.downs[0].conv.weight, normed.weight)
    assert not [name for name in loaded.state_dict() if "weight_g" in name]


def test_names_of_the_published_size_are_those_of_the_recorded_one() -> None:
    published = codec_slots_of(CodecConfig())
    assert f"{ENCODER}.13.lstm.weight_hh_l1" in published
    assert published[f"{ENCODER}.12.conv.conv.weight_v"].shape == (512, 256, 12)
    few_blocks = {key for key in published if "convnext" not in key}
    assert few_blocks == {key for key in codec_slots_of(RECORDED) if "convnext" not in key}


def codec_slots_of(config: CodecConfig) -> dict:
    with torch.device("meta"):
        state = Codec(config).state_dict()
    return codec_slots({name: tuple(each.shape) for name, each in state.items()}, config)
