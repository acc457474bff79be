"""The configuration of published Uni-MoE-2.0 checkpoints, both ways.

In:  the object of a released `config.json`, or an `OmniConfig`.  Out: the other one.
A field that is absent has the default of the released configuration class.
Source: released configuration classes (docs/sources.md#config).
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from unimoe.checkpoint.fields import Fields, core_config, text_tokens
from unimoe.config import (
    AudioConfig,
    CoreConfig,
    MoEConfig,
    OmniConfig,
    RouterConfig,
    SpecialTokens,
    VideoConfig,
    VisionConfig,
    to_dict,
)
from unimoe.errors import CheckpointError

_SIGLIP = "siglip_vision_model"


def released_json(
    config: OmniConfig, origin: Mapping[str, Any] | None, dtype_name: str
) -> dict[str, Any]:
    """The `config.json` of the released dialect.

    An `origin` that still says the same is returned as it is; otherwise the fields we know are
    laid over it.

    Raises:
        CheckpointError: the model has something that the released dialect cannot say.
    """
    if origin is not None and read_released(origin) == config:
        return dict(origin)
    values = _merged(origin or {}, _released_fields(config, dtype_name))
    told = read_released(values)
    if told != config:
        raise CheckpointError(
            "the released dialect cannot express " + "; ".join(_differences(config, told))
        )
    return values


def read_released(values: Mapping[str, Any]) -> OmniConfig:
    """The configuration a released `config.json` describes.

    Raises:
        CheckpointError: a field is missing, has the wrong type, or asks for something unsupported.
    """
    fields = Fields(values)
    fields.refuse("hidden_act", "silu")
    fields.refuse("use_sliding_window", False)
    rope = "rope_scaling" if values.get("rope_scaling") else "rope_parameters"
    fields.group(rope).refuse("rope_type", "default", "mrope")
    fields.group(rope).refuse("mrope_interleaved", False)
    time, height, width = fields.group(rope).numbers("mrope_section", 3)
    core = core_config(
        fields, has_qkv_bias=True, sections=(time, height, width), moe=_released_moe(fields)
    )
    return OmniConfig(
        core=core,
        vision=_released_vision(fields),
        audio=_released_audio(fields),
        video=VideoConfig(
            frame_rate_fps=fields.get("video_fps", float, 1.0),
            max_frames=fields.get("frames_upbound", int, 64),
            frame_side=fields.get("video_pixel_upbound", int, None),
        ),
        special_tokens=_released_tokens(fields),
        position_rule="released",
        balance_weight=fields.get("l_aux_weight", float, 0.0),
    )


def _released_moe(fields: Fields) -> MoEConfig:
    top_p = fields.get("mlp_dynamic_top_p", float, 0.7)
    is_deterministic = fields.get("ignore_differentiable_router", bool, False)
    policy = (
        fields.get("drop_policy", str, "probs") if fields.get("token_drop", bool, False) else None
    )
    if policy not in (None, "probs", "position"):
        raise CheckpointError(f"drop_policy is {policy!r}; need 'probs' or 'position'")
    router = RouterConfig(
        num_routed=fields.get("mlp_dynamic_expert_num", int, 4),
        num_null=fields.get("mlp_dynamic_null_expert_num", int, 0),
        num_shared=fields.get("mlp_fixed_expert_num", int, 2),
        top_p=top_p or None,
        top_k=None if top_p else int(fields.get("mlp_dynamic_top_k", float, 2.0)),
        rule="released",
        gate_gradient="deterministic" if is_deterministic else "sampled",
        near_tie=fields.get("router_jitter_noise", float, 0.01),
        input_jitter=fields.get("input_jitter_noise", float, 0.01),
        fp32_in_training=fields.get("fp32_gate", bool, True),
        drop_policy=policy,  # type: ignore[arg-type]  # narrowed above
        capacity_factor=fields.get("capacity_factor", float, 1.0),
        min_capacity=fields.get("min_capacity", int, 8),
    )
    return MoEConfig(
        router=router,
        routed_width=fields.get("dynamic_intermediate_size", int, 8960),
        shared_width=fields.get("shared_intermediate_size", int, 8960),
    )


def _released_vision(fields: Fields) -> VisionConfig:
    """Defaults are SigLIP-So400m; the release drops the last layer of the number it is told."""
    vision = fields.group("vision_config")
    if vision.get("model_type", str, _SIGLIP) != _SIGLIP:
        vision = Fields({})  # the release ignores the values; a foreign tower's are no help
    smallest, largest = _grid_range(fields.get("image_grid_pinpoints", str, "(1x1),(3x3)"))
    mean = vision.numbers("image_mean", 3, [0.5] * 3)
    std = vision.numbers("image_std", 3, [0.5] * 3)
    return VisionConfig(
        hidden_size=vision.get("hidden_size", int, 1152),
        num_layers=vision.get("num_hidden_layers", int, 27) - 1,
        num_heads=vision.get("num_attention_heads", int, 16),
        ffn_width=vision.get("intermediate_size", int, 4304),
        image_side=vision.get("image_size", int, 384),
        patch_side=vision.get("patch_size", int, 14),
        layer_norm_eps=vision.get("layer_norm_eps", float, 1e-6),
        hidden_act=vision.get("hidden_act", str, "gelu_pytorch_tanh"),
        pool_side=fields.get("vision_spatial_pool_stride", int),
        min_tile_grid=smallest,
        max_tile_grid=largest,
        pixel_mean=(mean[0], mean[1], mean[2]),
        pixel_std=(std[0], std[1], std[2]),
    )


def _grid_range(pinpoints: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Smallest and largest grid of "(1x1),...,(3x3)": only the first and last pair count."""
    pairs = re.findall(r"\((\d{1,4})x(\d{1,4})\)", pinpoints)
    if not pairs:
        raise CheckpointError(f"image_grid_pinpoints is {pinpoints!r}; need '(1x1),...,(3x3)'")
    (across, down), (most_across, most_down) = pairs[0], pairs[-1]
    return (int(across), int(down)), (int(most_across), int(most_down))


def _released_audio(fields: Fields) -> AudioConfig:
    audio = fields.group("audio_config")
    audio.refuse("scale_embedding", False)
    audio.refuse("activation_function", "gelu")
    heads = audio.get("encoder_attention_heads", int)
    audio.refuse("decoder_attention_heads", heads)
    width = audio.get("encoder_ffn_dim", int)
    audio.refuse("decoder_ffn_dim", width)
    return AudioConfig(
        hidden_size=audio.get("d_model", int),
        encoder_layers=audio.get("encoder_layers", int),
        decoder_layers=audio.get("decoder_layers", int),
        num_heads=heads,
        ffn_width=width,
        num_mel_bins=audio.get("num_mel_bins", int),
        max_source_positions=audio.get("max_source_positions", int),
        max_target_positions=audio.get("max_target_positions", int),
        vocab_size=audio.get("vocab_size", int),
        queries_per_clip=fields.get("whisper_query_tokens_size", int, 200),
        projector_layers=_projector_layers(fields.get("whisper_projector_type", str, "linear")),
        max_clips=fields.get("whisper_audio_time", int),
    )


def _projector_layers(name: str) -> int:
    deep = re.fullmatch(r"mlp(\d{1,2})x_gelu", name)
    if deep is None and name != "linear":
        raise CheckpointError(f"whisper_projector_type is {name!r}; need 'linear' or 'mlpNx_gelu'")
    return 1 if deep is None else int(deep[1])


# Ours -> released, where the released name is not ours with "_token_id" behind it.
_TOKEN_FIELDS = {
    "pad": "pad_token_id",
    "end_of_turn": "eos_token_id",
    "image_pad": "image_token_id",
    "video_pad": "video_token_id",
    "audio_pad": "audio_token_id",
}


def _token_field(name: str) -> str:
    return _TOKEN_FIELDS.get(name, f"{name}_token_id")


def _released_tokens(fields: Fields) -> SpecialTokens:
    text = text_tokens(fields)
    others = {
        field.name: fields.token(_token_field(field.name))
        for field in dataclasses.fields(SpecialTokens)
        if field.name not in ("pad", "end_of_turn")
    }
    return SpecialTokens(pad=text.pad, end_of_turn=text.end_of_turn, **others)


def _released_fields(config: OmniConfig, dtype_name: str) -> dict[str, Any]:
    """Every released field that we can tell; the rest a reader takes from its defaults."""
    core, vision, audio = config.core, config.vision, config.audio
    if core.moe is None or vision is None or audio is None:
        raise CheckpointError(
            "the released dialect always has experts, vision and audio; this model lacks "
            + ", ".join(
                name
                for name, part in (("experts", core.moe), ("vision", vision), ("audio", audio))
                if part is None
            )
        )
    tokens = {
        _token_field(name): token
        for name, token in to_dict(config.special_tokens).items()
        if token is not None
    }
    return {
        "architectures": ["GrinQwen2VLForConditionalGeneration"],
        "model_type": "grin_qwen2_vl",
        "torch_dtype": dtype_name,
        "tune_image_generator": False,
        "l_aux_weight": config.balance_weight,
        **_core_fields(core),
        **_moe_fields(core.moe),
        **_vision_fields(vision),
        **_audio_fields(audio),
        "video_fps": config.video.frame_rate_fps,
        "frames_upbound": config.video.max_frames,
        "video_pixel_upbound": config.video.frame_side,
        **tokens,
    }


def _core_fields(core: CoreConfig) -> dict[str, Any]:
    return {
        "vocab_size": core.vocab_size,
        "hidden_size": core.hidden_size,
        "hidden_act": "silu",
        "num_hidden_layers": core.num_layers,
        "num_attention_heads": core.num_heads,
        "num_key_value_heads": core.num_kv_heads,
        "intermediate_size": core.ffn_width,
        "rms_norm_eps": core.rms_norm_eps,
        "rope_theta": core.rope_theta,
        "rope_scaling": {
            "mrope_section": list(core.rope_sections),
            "rope_type": "default",
            "type": "default",
        },
        "tie_word_embeddings": core.ties_embeddings,
        "max_position_embeddings": core.max_positions,
        "use_sliding_window": False,
    }


def _moe_fields(moe: MoEConfig) -> dict[str, Any]:
    router = moe.router
    return {
        "mlp_dynamic_expert_num": router.num_routed,
        "mlp_dynamic_null_expert_num": router.num_null,
        "mlp_fixed_expert_num": router.num_shared,
        "mlp_dynamic_top_p": router.top_p or 0.0,
        "mlp_dynamic_top_k": router.top_k or 0,
        "ignore_differentiable_router": router.gate_gradient == "deterministic",
        "router_jitter_noise": router.near_tie,
        "input_jitter_noise": router.input_jitter,
        "fp32_gate": router.fp32_in_training,
        "token_drop": router.drop_policy is not None,
        "drop_policy": router.drop_policy or "probs",
        "capacity_factor": router.capacity_factor,
        "min_capacity": router.min_capacity,
        "dynamic_intermediate_size": moe.routed_width,
        "shared_intermediate_size": moe.shared_width,
        "ep_size": 1,
        "fixed_ep_size": 1,
        "enable_expert_tensor_parallelism": False,
    }


def _vision_fields(vision: VisionConfig) -> dict[str, Any]:
    smallest, largest = vision.min_tile_grid, vision.max_tile_grid
    return {
        "mm_hidden_size": vision.hidden_size,
        "vision_spatial_pool_stride": vision.pool_side,
        "image_grid_pinpoints": f"({smallest[0]}x{smallest[1]}),({largest[0]}x{largest[1]})",
        "vision_config": {
            "model_type": _SIGLIP,
            "hidden_size": vision.hidden_size,
            "num_hidden_layers": vision.num_layers + 1,
            "num_attention_heads": vision.num_heads,
            "intermediate_size": vision.ffn_width,
            "image_size": vision.image_side,
            "patch_size": vision.patch_side,
            "num_channels": 3,
            "layer_norm_eps": vision.layer_norm_eps,
            "hidden_act": vision.hidden_act,
            "image_mean": list(vision.pixel_mean),
            "image_std": list(vision.pixel_std),
        },
    }


def _audio_fields(audio: AudioConfig) -> dict[str, Any]:
    layers = audio.projector_layers
    return {
        "whisper_hidden_size": audio.hidden_size,
        "whisper_query_tokens_size": audio.queries_per_clip,
        "whisper_projector_type": "linear" if layers == 1 else f"mlp{layers}x_gelu",
        "whisper_audio_time": audio.max_clips,
        "audio_config": {
            "model_type": "whisper",
            "d_model": audio.hidden_size,
            "encoder_layers": audio.encoder_layers,
            "decoder_layers": audio.decoder_layers,
            "num_hidden_layers": audio.encoder_layers,
            "encoder_attention_heads": audio.num_heads,
            "decoder_attention_heads": audio.num_heads,
            "encoder_ffn_dim": audio.ffn_width,
            "decoder_ffn_dim": audio.ffn_width,
            "num_mel_bins": audio.num_mel_bins,
            "max_source_positions": audio.max_source_positions,
            "max_target_positions": audio.max_target_positions,
            "vocab_size": audio.vocab_size,
            "activation_function": "gelu",
            "scale_embedding": False,
        },
    }


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One object laid over another, group by group."""
    merged = dict(below)
    for name, value in above.items():
        lower = merged.get(name)
        both_groups = isinstance(value, Mapping) and isinstance(lower, Mapping)
        merged[name] = _merged(lower, value) if both_groups else value  # type: ignore[arg-type]
    return merged


def _differences(wanted: OmniConfig, told: OmniConfig) -> list[str]:
    before, after = flat(to_dict(wanted)), flat(to_dict(told))
    return [
        f"{name} = {value!r} (it would read back as {after.get(name)!r})"
        for name, value in before.items()
        if after.get(name) != value
    ]


def flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested groups as one level with dotted names."""
    dotted: dict[str, Any] = {}
    for name, value in values.items():
        is_group = isinstance(value, Mapping)
        dotted |= flat(value, f"{path}{name}.") if is_group else {path + name: value}
    return dotted
