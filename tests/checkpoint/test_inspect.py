"""Inspection: the sizes of the published model, from its configuration alone."""

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import save_file

from tests.checkpoint.tiny_checkpoints import (
    RELEASED,
    change_config,
    change_tensors,
    dense_config,
    dense_directory,
    dense_model,
    released_copy,
    released_with_heads,
)
from unimoe.checkpoint.dialects import own_json
from unimoe.checkpoint.directory import read_config, slots_in
from unimoe.checkpoint.inspect import describe, render
from unimoe.checkpoint.weights import load_model
from unimoe.cli.root import Dtype
from unimoe.errors import CheckpointError

BILLION = 10**9


def published(directory: Path) -> Path:
    """A configuration of the published sizes; no weights."""
    values = json.loads((RELEASED / "config.json").read_text())
    whisper = {
        "d_model": 1280,
        "encoder_layers": 32,
        "decoder_layers": 32,
        "encoder_attention_heads": 20,
        "decoder_attention_heads": 20,
        "encoder_ffn_dim": 5120,
        "decoder_ffn_dim": 5120,
        "num_mel_bins": 128,
        "max_source_positions": 1500,
        "max_target_positions": 448,
        "vocab_size": 51866,
    }
    values |= {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "dynamic_intermediate_size": 18944,
        "shared_intermediate_size": 2368,
        "vision_spatial_pool_stride": 12,
        "vision_config": {"model_type": "siglip_vision_model"},
        "audio_config": values["audio_config"] | whisper,
    }
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(values))
    return directory


def test_the_published_sizes_agree_with_the_released_tensors(tmp_path: Path) -> None:
    parts = describe(published(tmp_path)).parts
    core = sum(number for part, number in parts.items() if part.startswith("core"))
    assert core / BILLION == pytest.approx(26.152, abs=5e-4)
    assert parts["vision: tower and aligner"] / BILLION == pytest.approx(0.415, abs=5e-4)
    assert parts["audio: encoder"] / BILLION == pytest.approx(0.637, abs=5e-4)
    assert parts["audio: Q-Former and projector"] / BILLION == pytest.approx(0.911, abs=5e-4)
    assert describe(tmp_path).num_parameters / BILLION == pytest.approx(28.11, abs=5e-3)


def test_active_parameters_of_the_published_core(tmp_path: Path) -> None:
    active = describe(published(tmp_path)).active
    one_expert = 3 * 3584 * 18944 * 28
    assert active.routed_experts[0] == 0
    assert active.routed_experts[2] == 4
    assert active.maximum - active.minimum == 4 * one_expert
    assert active.minimum / BILLION == pytest.approx(26.152 - 4 * 5.703, abs=2e-3)
    assert active.minimum < active.typical < active.maximum


def test_memory_of_the_published_model(tmp_path: Path) -> None:
    inspection = describe(published(tmp_path))
    assert inspection.weight_bytes["bfloat16"] == 2 * inspection.num_parameters
    assert inspection.weight_bytes["float32"] == 4 * inspection.num_parameters
    assert set(inspection.weight_bytes) == set(get_args(Dtype)) - {"auto"}
    assert inspection.cache_bytes_per_1000_tokens["bfloat16"] == 2 * 28 * 4 * 128 * 1000 * 2


def sparse_safetensors(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A bfloat16 file with a true header whose values take no room on disk."""
    header, end = {}, 0
    for key, shape in shapes.items():
        start, end = end, end + 2 * torch.Size(shape).numel()
        header[key] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def test_a_directory_of_56_gigabytes_is_inspected_from_its_headers(tmp_path: Path) -> None:
    slots = slots_in("released", read_config(published(tmp_path)))
    sparse_safetensors(
        tmp_path / "model.safetensors", {key: slot.shape for key, slot in slots.items()}
    )
    inspection = describe(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size > 56 * BILLION
    assert inspection.report is not None
    assert inspection.report.is_complete
    assert inspection.stored == {"BF16": inspection.num_parameters}


def test_an_index_without_its_shards_is_compared_by_names(tmp_path: Path) -> None:
    slots = slots_in("released", read_config(published(tmp_path)))
    names = [*slots, "talker.weight", "speech_generator.norm.weight"]
    names.remove("model.norm.weight")
    weight_map = dict.fromkeys(names, "model-00001-of-00013.safetensors")
    index = {"metadata": {}, "weight_map": weight_map}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    inspection = describe(tmp_path)
    assert not inspection.has_shapes
    assert inspection.report is not None
    assert inspection.report.missing == ("model.norm.weight",)
    assert inspection.report.unexpected == ("talker.weight",)
    assert list(inspection.report.left_aside) == ["speech head"]
    assert "NOT complete (names of the index only" in render(inspection)


def test_a_shard_missing_among_others_is_an_error(tmp_path: Path) -> None:
    released_copy(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    save_file({"model.norm.weight": torch.ones(64)}, tmp_path / "a.safetensors")
    weight_map = {"model.norm.weight": "a.safetensors", "lm_head.weight": "b.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(CheckpointError, match=r"b.safetensors: missing"):
        describe(tmp_path)


def test_faults_are_reported_not_raised(tmp_path: Path) -> None:
    released_copy(tmp_path)
    change_tensors(tmp_path, add={"talker.weight": torch.ones(2)}, drop=("model.norm.weight",))
    inspection = describe(tmp_path)
    assert inspection.report is not None
    assert not inspection.report.is_complete
    text = render(inspection)
    assert "NOT complete" in text
    assert "  1 missing (core 1):" in text
    assert "    model.norm.weight" in text


def test_heads_not_loaded_yet_are_counted_apart(tmp_path: Path) -> None:
    inspection = describe(released_with_heads(tmp_path))
    assert inspection.model_type == "grin_qwen2_vl_out"
    assert inspection.left_aside == {"speech head": 12, "image head": 7}
    assert inspection.num_parameters == describe(RELEASED).num_parameters
    assert "12 more stored in the speech head, not loaded yet" in render(inspection)


def test_a_dense_model_is_active_as_a_whole(tmp_path: Path) -> None:
    values = dense_config("llama")
    inspection = describe(dense_directory(tmp_path, dense_model(values), values))
    assert inspection.active.minimum == inspection.active.maximum == inspection.num_parameters
    assert inspection.parts["core: dense feed-forward"] == 2 * 3 * 32 * 48
    assert "dense feed-forward 48" in render(inspection)
    assert "active in the core" not in render(inspection)


def test_layers_without_experts_are_told_and_counted_whole(tmp_path: Path) -> None:
    config = read_config(RELEASED)
    mixed = replace(config, core=replace(config.core, dense_layers=(2, 0)))
    (tmp_path / "config.json").write_text(json.dumps(own_json(mixed, None)))
    inspection, uniform = describe(tmp_path), describe(RELEASED)
    one_block, one_expert = 3 * 64 * 128, 3 * 64 * 72
    assert inspection.parts["core: dense feed-forward"] == 2 * one_block
    assert inspection.parts["core: routed experts"] == 4 * one_expert
    assert inspection.active.maximum - inspection.active.minimum == 4 * one_expert
    assert 3 * inspection.parts["core: routers"] == uniform.parts["core: routers"]
    assert "        without experts: layers 0, 2, feed-forward 128" in render(inspection)
    assert "without experts" not in render(uniform)


def test_a_fixed_number_of_experts_bounds_what_is_active(tmp_path: Path) -> None:
    change_config(released_copy(tmp_path), mlp_dynamic_top_p=0, mlp_dynamic_top_k=2)
    assert describe(tmp_path).active.routed_experts[0] == 1  # the other may be the null expert
    assert describe(tmp_path).active.routed_experts[2] == 2


def test_the_text_shows_the_fixture_at_a_glance() -> None:
    lines = render(describe(RELEASED)).splitlines()
    assert lines[0].endswith("checkpoint_understanding: grin_qwen2_vl")
    assert lines[1] == (
        "core    3 layers, hidden 64, heads 4/2 of 16, vocabulary 600, 2048 positions"
    )
    assert lines[2] == (
        "        experts: 4 routed of 72, 1 null, 2 shared of 24; top-p 0.7, rule released"
    )
    assert "  core: routed experts            165.888 k" in lines
    assert "tensors  complete; stored: 427.760 k F32" in lines


def test_a_configuration_alone_is_enough(tmp_path: Path) -> None:
    inspection = describe(published(tmp_path))
    assert inspection.report is None
    assert "tensors  no weights here, only the configuration" in render(inspection)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "mp_rank_00_model_states.pt"])
def test_weights_that_loading_refuses_are_refused_in_the_same_words(
    tmp_path: Path, name: str
) -> None:
    (published(tmp_path) / name).touch()
    with pytest.raises(CheckpointError) as refused:
        load_model(tmp_path)
    inspection = describe(tmp_path)
    assert "pickle" in str(refused.value)
    assert inspection.refusal == str(refused.value)
    assert f"tensors  NOT readable: {refused.value}" in render(inspection)


def test_nothing_to_inspect_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config.json: cannot be read"):
        describe(tmp_path)
