"""Configurations of foreign checkpoints: read completely or refused, never half understood."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoint.tiny_checkpoints import RELEASED, dense_config
from unimoe.checkpoint.dialects import config_from_json, origin_of, own_json
from unimoe.checkpoint.fields import text_rope_sections
from unimoe.checkpoint.released import released_json
from unimoe.config import (
    AudioConfig,
    CoreConfig,
    MoEConfig,
    OmniConfig,
    RouterConfig,
    SpecialTokens,
    VideoConfig,
    VisionConfig,
)
from unimoe.errors import CheckpointError

VALUES = json.loads((RELEASED / "config.json").read_text())


def released_with(**changed: Any) -> OmniConfig:
    kept = {name: value for name, value in (VALUES | changed).items() if value is not None}
    return config_from_json(kept)


def test_a_released_configuration_field_by_field() -> None:
    assert released_with() == OmniConfig(
        core=CoreConfig(
            vocab_size=600,
            hidden_size=64,
            num_layers=3,
            num_heads=4,
            num_kv_heads=2,
            head_dim=16,
            ffn_width=128,
            rope_sections=(2, 3, 3),
            max_positions=2048,
            moe=MoEConfig(
                router=RouterConfig(rule="released", input_jitter=0.01),
                routed_width=72,
                shared_width=24,
            ),
        ),
        vision=VisionConfig(
            hidden_size=32,
            num_layers=3,
            num_heads=4,
            ffn_width=48,
            image_side=55,
            patch_side=2,
            pool_side=2,
        ),
        audio=AudioConfig(
            hidden_size=32,
            encoder_layers=2,
            decoder_layers=2,
            num_heads=4,
            ffn_width=64,
            num_mel_bins=20,
            max_source_positions=50,
            max_target_positions=208,
            vocab_size=40,
            max_clips=4,
        ),
        video=VideoConfig(frame_side=384),
        special_tokens=SpecialTokens(
            pad=572,
            end_of_turn=574,
            vision_start=581,
            vision_end=582,
            image_pad=584,
            video_pad=585,
            audio_start=588,
            audio_end=589,
            audio_pad=590,
            speech_start=591,
            speech_end=592,
            speech_prompt=593,
            speech_split=594,
        ),
        position_rule="released",
        balance_weight=0.02,
    )


def test_the_layer_that_the_release_deletes_is_not_counted() -> None:
    changed = released_with(vision_config={"num_hidden_layers": 9, "num_attention_heads": 2})
    assert changed.vision is not None
    assert changed.vision.num_layers == 8


def test_an_absent_vision_group_means_the_full_siglip() -> None:
    vision = released_with(vision_config=None, vision_spatial_pool_stride=12).vision
    assert vision is not None
    assert (vision.num_layers, vision.hidden_size, vision.tokens_per_tile) == (26, 1152, 144)


def test_a_vision_group_of_another_tower_is_ignored_as_in_the_release() -> None:
    qwen = {"model_type": "qwen2_vl", "depth": 32, "hidden_size": 3584}
    assert released_with(vision_config=qwen).vision == released_with(vision_config=None).vision


def test_the_training_router_is_sampled_unless_it_is_ignored() -> None:
    sampled = released_with(ignore_differentiable_router=False)
    assert sampled.core.moe is not None
    assert sampled.core.moe.router.gate_gradient == "sampled"


def test_dropping_counts_only_when_it_is_switched_on() -> None:
    off, on = released_with(drop_policy="position"), released_with(token_drop=True)
    assert off.core.moe is not None
    assert on.core.moe is not None
    assert off.core.moe.router.drop_policy is None
    assert on.core.moe.router.drop_policy == "probs"


def test_a_threshold_of_zero_means_a_fixed_number() -> None:
    moe = released_with(mlp_dynamic_top_p=0, mlp_dynamic_top_k=3).core.moe
    assert moe is not None
    assert (moe.router.top_p, moe.router.top_k) == (None, 3)


def test_first_and_last_grid_bound_the_tiling() -> None:
    vision = released_with(image_grid_pinpoints="(1x2),(2x2),(4x3)").vision
    assert vision is not None
    assert (vision.min_tile_grid, vision.max_tile_grid) == ((1, 2), (4, 3))


def test_a_deep_audio_projector_is_counted_in_maps() -> None:
    audio = released_with(whisper_projector_type="mlp3x_gelu").audio
    assert audio is not None
    assert audio.projector_layers == 3


def test_of_several_end_tokens_the_first_ends_a_turn() -> None:
    assert released_with(eos_token_id=[574, 572]).special_tokens.end_of_turn == 574


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_size", "64", r"hidden_size is '64'; need int"),
        ("hidden_size", None, r"config lacks hidden_size"),
        ("hidden_size", True, r"hidden_size is True; need int"),
        ("num_hidden_layers", -1, r"num_hidden_layers is -1; need 0 or more"),
        ("num_hidden_layers", 10**9, r"core.num_layers is 1000000000; a checkpoint has 1 to"),
        ("num_attention_heads", 0, r"impossible configuration"),
        ("num_key_value_heads", 3, r"num_heads 4 is no multiple"),
        ("vocab_size", 10**15, r"core.vocab_size is 1000000000000000"),
        ("dynamic_intermediate_size", 10**9, r"routed_width is 1000000000"),
        ("mlp_dynamic_expert_num", 10**7, r"num_routed is 10000000"),
        ("mlp_dynamic_top_p", 1.5, r"top_p is 1.5"),
        ("rope_scaling", {"mrope_section": [1, 1, 1]}, r"rope_sections \(1, 1, 1\) must add up"),
        ("rope_scaling", {"rope_type": "yarn"}, r"rope_scaling.rope_type is 'yarn', which is not"),
        ("rope_scaling", {"mrope_interleaved": True}, r"rope_scaling.mrope_interleaved is True"),
        ("rope_scaling", [1], r"rope_scaling is \[1\]; need a group"),
        ("image_grid_pinpoints", "3x3", r"image_grid_pinpoints is '3x3'"),
        ("whisper_projector_type", "qformer", r"whisper_projector_type is 'qformer'"),
        ("drop_policy", "random", r"drop_policy is 'random'"),
        ("use_sliding_window", True, r"use_sliding_window is True, which is not supported"),
        ("vision_config", {"num_hidden_layers": 0}, r"."),
        ("vision_config", {"num_attention_heads": 0}, r"impossible configuration"),
        ("audio_config", {}, r"config lacks audio_config.encoder_attention_heads"),
    ],
)
def test_an_impossible_released_field_is_named(field: str, value: Any, message: str) -> None:
    switched_on = {"token_drop": True} if field == "drop_policy" else {}
    with pytest.raises(CheckpointError, match=message):
        released_with(**{field: value}, **switched_on)


@pytest.mark.parametrize(
    ("model_type", "changed", "message"),
    [
        (
            "llama",
            {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
            "rope_scaling.rope_type is 'llama3', .* supported is 'default', or",
        ),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling.type"),
        ("qwen2", {"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters.rope_type"),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ("llama", {"attention_bias": True}, "attention_bias is True, .* supported is False, or"),
        ("llama", {"mlp_bias": True}, "mlp_bias"),
        (
            "qwen2",
            {"use_sliding_window": True},
            "use_sliding_window is True, .* supported is False, or",
        ),
        ("qwen2", {"hidden_act": "gelu"}, "hidden_act"),
        (
            "qwen2",
            {"quantization_config": {"bits": 4}},
            "quantization_config.*; supported is only",
        ),
    ],
)
def test_a_dense_feature_we_would_have_to_ignore_is_refused(
    model_type: str, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"{message}.*a model without this field"):
        config_from_json(dense_config(model_type, **changed))


@pytest.mark.parametrize("model_type", ["mistral", "qwen3_moe", None, 7, ["llama"]])
def test_an_unknown_model_type_lists_the_readable_ones(model_type: Any) -> None:
    with pytest.raises(CheckpointError, match=r"readable are grin_qwen2_vl, .*, unimoe"):
        config_from_json({"model_type": model_type})


def test_a_dense_configuration_has_only_text() -> None:
    config = config_from_json(dense_config("llama", head_dim=8))
    assert (config.vision, config.audio, config.core.moe) == (None, None, None)
    assert not config.core.has_qkv_bias
    assert config.core.rope_sections == (2, 1, 1)
    assert config.special_tokens == SpecialTokens(pad=2, end_of_turn=2)


def test_text_sections_have_the_proportion_of_the_released_model() -> None:
    assert text_rope_sections(128) == (16, 24, 24)
    assert sum(text_rope_sections(6)) == 3


def test_an_unknown_field_of_our_own_is_refused() -> None:
    values = own_json(released_with(), None)
    values["core"]["num_hedas"] = 3
    with pytest.raises(CheckpointError, match=r"core.num_hedas: no such field; did you mean"):
        config_from_json(values)


def test_our_own_form_remembers_the_released_one() -> None:
    values = own_json(released_with(), origin_of(VALUES))
    assert config_from_json(values) == released_with()
    assert origin_of(values) == VALUES
    assert origin_of(dense_config()) is None


def test_an_unchanged_origin_is_returned_as_it_stood() -> None:
    assert list(released_json(released_with(), VALUES, "float32").items()) == list(VALUES.items())


@settings(max_examples=40)
@given(
    top=st.one_of(st.floats(0.1, 1.0), st.integers(1, 2)),
    counts=st.tuples(st.integers(2, 6), st.integers(0, 2), st.integers(0, 2)),
    policy=st.sampled_from([None, "probs", "position"]),
    gradient=st.sampled_from(["deterministic", "sampled"]),
    layers=st.integers(1, 40),
    frame_side=st.one_of(st.none(), st.integers(14, 500)),
    projector_layers=st.integers(1, 4),
    max_grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    ties=st.booleans(),
)
def test_what_the_released_form_can_express_reads_back_equal(
    top: float | int,
    counts: tuple[int, int, int],
    policy: Any,
    gradient: Any,
    layers: int,
    frame_side: int | None,
    projector_layers: int,
    max_grid: tuple[int, int],
    ties: bool,
) -> None:
    base = released_with()
    assert base.vision is not None
    assert base.audio is not None
    router = RouterConfig(
        num_routed=counts[0],
        num_null=counts[1],
        num_shared=counts[2],
        top_p=top if isinstance(top, float) else None,
        top_k=top if isinstance(top, int) else None,
        rule="released",
        gate_gradient=gradient,
        drop_policy=policy,
    )
    moe = MoEConfig(router=router, routed_width=9, shared_width=3)
    config = replace(
        base,
        core=replace(base.core, num_layers=layers, ties_embeddings=ties, moe=moe),
        vision=replace(base.vision, num_layers=layers, max_tile_grid=max_grid),
        audio=replace(base.audio, projector_layers=projector_layers),
        video=replace(base.video, frame_side=frame_side),
    )
    for origin in (None, VALUES):
        assert config_from_json(released_json(config, origin, "float32")) == config
