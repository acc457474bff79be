"""Whisper out of CTranslate2's model.bin: unstacked, renamed, nothing lost."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from unimoe.errors import PartsError
from unimoe.parts.ctranslate2 import read_model, whisper_weights

DTYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def model_bin(arrays: dict[str, np.ndarray], version: int = 6, spec: str = "WhisperSpec") -> bytes:
    data = struct.pack("<I", version) + text(spec) + struct.pack("<II", 3, len(arrays))
    for name, array in arrays.items():
        data += text(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        data += struct.pack("<BI", DTYPES[array.dtype.name], array.nbytes) + array.tobytes()
    return data + struct.pack("<I", 1) + text("decoder/projection/weight") + text("x")


def stacked(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A transformers Whisper under the names and in the stacks of CTranslate2."""
    names = {
        "embed_positions.weight": "position_encodings/encodings",
        "embed_tokens.weight": "embeddings/weight",
        "self_attn_layer_norm": "self_attention/layer_norm",
        "encoder_attn_layer_norm": "attention/layer_norm",
        "final_layer_norm": "ffn/layer_norm",
        "self_attn.out_proj": "self_attention/linear_1",
        "encoder_attn.q_proj": "attention/linear_0",
        "encoder_attn.out_proj": "attention/linear_2",
        "fc1": "ffn/linear_0",
        "fc2": "ffn/linear_1",
    }
    arrays: dict[str, np.ndarray] = {}
    for key, values in state.items():
        name = key.removeprefix("model.").replace("layers.", "layer_")
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        if "norm" in name:
            name = name.replace(".weight", ".gamma").replace(".bias", ".beta")
        arrays[name.replace(".", "/")] = values
    joined = {
        ("self_attn", "qkv"): "self_attention/linear_0",
        ("encoder_attn", "kv"): "attention/linear_1",
    }
    for (owner, letters), theirs in joined.items():
        scopes = {key.split(f"/{owner}/")[0] for key in arrays if f"/{owner}/" in key}
        for scope in scopes:
            for kind in ("weight", "bias"):
                keys = [f"{scope}/{owner}/{letter}_proj/{kind}" for letter in letters]
                width = arrays[f"{scope}/{owner}/v_proj/{kind}"].shape[0]
                pieces = [arrays.pop(key, np.zeros(width, np.float16)) for key in keys]
                arrays[f"{scope}/{theirs}/{kind}"] = np.concatenate(pieces)
    settings = {"encoder/num_heads": np.int16(2), "decoder/alignment_layer": np.int16(-1)}
    return arrays | {name: np.asarray(value) for name, value in settings.items()}


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    settings = WhisperConfig(
        vocab_size=11,
        num_mel_bins=4,
        d_model=8,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=12,
        decoder_ffn_dim=12,
        max_source_positions=6,
        max_target_positions=5,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=0,
    )
    weights = WhisperForConditionalGeneration(settings).state_dict()
    del weights["proj_out.weight"]
    return {name: tensor.half().numpy() for name, tensor in weights.items()}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_encoder_and_decoder_come_out_under_their_names(
    tmp_path: Path, state: dict[str, np.ndarray]
) -> None:
    weights = whisper_weights(write(tmp_path / "model.bin", model_bin(stacked(state))))
    assert set(weights) == set(state)
    assert all(np.array_equal(weights[name], state[name].astype(np.float32)) for name in state)


def test_arrays_are_read_as_they_are_stored(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.int8).reshape(2, 3), "b/c": np.asarray(np.int16(7))}
    found = read_model(write(tmp_path / "model.bin", model_bin(arrays)))
    assert {name: array.tolist() for name, array in found.items()} == {
        "a": [[0, 1, 2], [3, 4, 5]],
        "b/c": 7,
    }
    assert found["a"].dtype == np.int8


def test_pieces_of_a_file_are_read_as_the_whole(tmp_path: Path) -> None:
    whole = model_bin({"encoder/conv1/weight": np.arange(6, dtype=np.float32).reshape(2, 3)})
    pieces = [tmp_path / "one", tmp_path / "two"]
    pieces[0].write_bytes(whole[:50])
    pieces[1].write_bytes(whole[50:])
    (values,) = read_model(*pieces).values()
    np.testing.assert_array_equal(values, [[0, 1, 2], [3, 4, 5]])


def test_an_unknown_array_is_named(tmp_path: Path) -> None:
    data = model_bin({"encoder/layer_0/rotary/weight": np.zeros(2, np.float16)})
    with pytest.raises(PartsError, match="encoder/layer_0/rotary/weight has no name"):
        whisper_weights(write(tmp_path / "model.bin", data))


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    data = model_bin({"encoder/conv1/weight": np.zeros(2, np.int8)})
    with pytest.raises(PartsError, match="need unquantised"):
        whisper_weights(write(tmp_path / "model.bin", data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no Whisper"),
        (model_bin({}, version=5), "version 5, need 6"),
        (model_bin({}, spec="TransformerSpec"), "holds a TransformerSpec"),
        (model_bin({"a": np.zeros(9, np.float32)})[:60], "no Whisper"),
        (
            model_bin({"a": np.zeros(9, np.float32)}).replace(b"\x24\0\0\0", b"\x20\0\0\0"),
            "reshape",
        ),
    ],
)
def test_a_damaged_or_foreign_file_is_a_parts_error(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    with pytest.raises(PartsError, match=reason):
        whisper_weights(write(tmp_path / "model.bin", data))


def test_a_file_that_is_not_there_is_a_parts_error(tmp_path: Path) -> None:
    with pytest.raises(PartsError, match="cannot be read"):
        whisper_weights(tmp_path / "none.bin")
