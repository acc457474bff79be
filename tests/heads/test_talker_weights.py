import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.heads.made_talkers import TINY, released_directory
from unimoe.config import TalkerConfig
from unimoe.errors import CheckpointError, ConfigError
from unimoe.heads.moe_tts import MoETTS
from unimoe.heads.talker_weights import load_talker, read_talker_config, talker_slots

PREFIX = "speech_generator."


def changed(directory: Path, add: dict[str, Tensor], drop: tuple[str, ...] = ()) -> Path:
    path = released_directory(directory) / "model.safetensors"
    kept = {key: value for key, value in load_file(path).items() if key not in drop}
    save_file(kept | add, path)
    return directory


def test_every_stored_number_arrives(tmp_path: Path) -> None:
    talker = load_talker(released_directory(tmp_path))
    stored = load_file(tmp_path / "model.safetensors")
    assert sum(each.numel() for each in talker.parameters()) == sum(
        each.numel() for each in stored.values()
    )
    assert torch.equal(
        talker.layers[1].moe.gate_up[2, 40:],
        stored[f"{PREFIX}layers.1.mlp.deepspeed_moe.experts.deepspeed_experts.2.up_proj.weight"],
    )
    assert torch.equal(
        talker.layers[2].attention.qkv_proj.bias[48:],
        stored[f"{PREFIX}layers.2.self_attn.v_proj.bias"],
    )
    assert not talker.training


def test_other_parts_of_the_model_are_none_of_its_business(tmp_path: Path) -> None:
    add = {"model.norm.weight": torch.ones(4), "lm_head.weight": torch.ones(2, dtype=torch.int8)}
    assert isinstance(load_talker(changed(tmp_path, add)), MoETTS)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    directory = changed(tmp_path, {}, (f"{PREFIX}layers.0.self_attn.k_proj.bias",))
    with pytest.raises(CheckpointError, match=r"1 missing .*\n  layers\.0\.self_attn\.k_proj"):
        load_talker(directory)


def test_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    directory = changed(tmp_path, {f"{PREFIX}layers.3.input_layernorm.weight": torch.ones(32)})
    with pytest.raises(CheckpointError, match=r"1 unexpected .*\n  layers\.3\.input_layernorm"):
        load_talker(directory)


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    directory = changed(tmp_path, {f"{PREFIX}out_fnn.bias": torch.ones(100)})
    with pytest.raises(CheckpointError, match=r"out_fnn\.bias: need \[109\], found \[100\]"):
        load_talker(directory)


def test_a_directory_without_a_speech_head_is_refused(tmp_path: Path) -> None:
    released_directory(tmp_path)
    save_file({"model.norm.weight": torch.ones(4)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="it has no speech head"):
        load_talker(tmp_path)


def test_a_pickle_is_refused_with_advice(tmp_path: Path) -> None:
    released_directory(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "speech_gen_ep2.bin").write_bytes(b"\x80\x02.")
    with pytest.raises(CheckpointError, match="only as pickle"):
        load_talker(tmp_path)


def test_dtype_is_that_of_all_weights(tmp_path: Path) -> None:
    talker = load_talker(released_directory(tmp_path), dtype=torch.bfloat16)
    assert {each.dtype for each in talker.parameters()} == {torch.bfloat16}


def test_the_published_sizes_are_the_defaults() -> None:
    published = {
        "idim": 2048,
        "odim": 4096,
        "encoder_criterion": "ce",
        "encoder_output_dim": 896,
        "llm_vocab_size": 151936,
        "transformer_attention_dim": 896,
        "transformer_linear_units": 4864,
        "transformer_num_blocks": 24,
        "transformer_attention_heads": 14,
        "transformer_kv_heads": 2,
        "speech_generator_type": "ar_ori_v2_new",
    }
    assert read_talker_config(published) == TalkerConfig()


def test_the_published_talker_has_1620_million_parameters_under_known_names() -> None:
    with torch.device("meta"):
        talker = MoETTS(TalkerConfig())
    shapes = {name: tuple(each.shape) for name, each in talker.named_parameters()}
    slots = talker_slots(shapes, TalkerConfig())
    assert round(sum(torch.Size(slot.shape).numel() for slot in slots.values()) / 1e6) == 1620
    assert slots["audio_embedding.weight"].shape == (4105, 896)
    assert slots["layers.23.self_attn.v_proj.weight"].shape == (128, 896)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("speech_generator_type", "ar", "speech_generator_type is 'ar', which is not supported"),
        ("encoder_output_dim", 64, "encoder_output_dim is 64"),
        ("odim", None, "config lacks odim"),
    ],
)
def test_what_the_talker_cannot_be_is_refused(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    path = released_directory(tmp_path) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(CheckpointError, match=message):
        load_talker(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_kv_heads", 3),
        ("hidden_size", 20),
        ("num_experts", 0),
        ("capacity_factor", 0.0),
        ("min_capacity", 0),
        ("num_codes", 0),
    ],
)
def test_impossible_talkers_are_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{field} .*{value}|{field} is"):
        dataclasses.replace(TINY, **{field: value})
