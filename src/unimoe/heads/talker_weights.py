"""Weights of the talker: a released speech head, complete or not at all.

In:  a directory with safetensors, of the whole model or of its speech head alone.
Out: a `MoETTS` in evaluation mode, filled one stored tensor at a time.
Source: released state dict and configuration of the speech generator (docs/sources.md#talker).
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from unimoe.checkpoint.directory import CONFIG_NAME
from unimoe.checkpoint.fields import Fields
from unimoe.checkpoint.slots import (
    Index,
    Shape,
    Slot,
    consecutive,
    gate_and_up,
    indexed,
)
from unimoe.checkpoint.storage import SafetensorsFiles, read_json
from unimoe.config import TalkerConfig
from unimoe.errors import CheckpointError
from unimoe.heads.moe_tts import MoETTS
from unimoe.heads.stored import require_fit
from unimoe.model.allocate import allocate

PREFIX = "speech_generator."
"""Of its keys, beside a whole model and alone."""

_WHOLE = {
    "text_embedding.weight": "qwenvl_embed_tokens.weight",
    "text_proj.weight": "in_fnn.weight",
    "text_proj.bias": "in_fnn.bias",
    "code_embedding.weight": "audio_embedding.weight",
    "norm.weight": "norm.weight",
    "head.weight": "out_fnn.weight",
    "head.bias": "out_fnn.bias",
}
_WHOLE_IN_LAYER = {
    "input_norm.weight": "input_layernorm.weight",
    "attention.o_proj.weight": "self_attn.o_proj.weight",
    "post_attention_norm.weight": "post_attention_layernorm.weight",
    "moe.gate.weight": "mlp.deepspeed_moe.gate.wg.weight",
}
_EXPERTS = "mlp.deepspeed_moe.experts.deepspeed_experts"


def load_talker(
    directory: str | Path,
    config: TalkerConfig | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> MoETTS:
    """The talker of a released checkpoint.

    Args:
        directory: its tensors; those of other parts of the model are none of its business.
        config: None reads `config.json` beside them.
        dtype: of all weights; the gates of the experts are evaluated in float32 even so.
        device: of all weights.

    Raises:
        CheckpointError: a tensor is missing, misshaped or unknown, or the files are unreadable.
    """
    directory = Path(directory)
    if config is None:
        config = read_talker_config(read_json(directory / CONFIG_NAME))
    files = SafetensorsFiles(directory)
    stored = {key.removeprefix(PREFIX): key for key in files.shapes if key.startswith(PREFIX)}
    if not stored:
        raise CheckpointError(f"{directory}: no tensors named {PREFIX}...; it has no speech head")
    with torch.device("meta"):
        talker = MoETTS(config)
    shapes = {name: tuple(each.shape) for name, each in talker.named_parameters()}
    slots = talker_slots(shapes, config)
    require_fit(slots, files, stored, f"the talker in {directory}")
    allocate(talker, lambda name, shape: torch.empty(shape, dtype=dtype, device=device))
    parameters = dict(talker.named_parameters())
    with torch.no_grad():
        for key, slot in slots.items():
            parameters[slot.parameter][slot.where].copy_(files.read(stored[key]))
    return talker.eval()


def read_talker_config(values: Mapping[str, Any]) -> TalkerConfig:
    """The talker a released `config.json` describes; what that leaves out is as published.

    Raises:
        CheckpointError: a field is missing, has the wrong type, or asks for something unsupported.
    """
    fields = Fields(values)
    fields.refuse("speech_generator_type", "ar_ori_v2_new")
    fields.refuse("encoder_criterion", "ce")
    hidden_size = fields.get("transformer_attention_dim", int)
    fields.refuse("encoder_output_dim", hidden_size)
    return TalkerConfig(
        text_vocab_size=fields.get("llm_vocab_size", int),
        text_width=fields.get("idim", int),
        num_codes=fields.get("odim", int),
        hidden_size=hidden_size,
        num_layers=fields.get("transformer_num_blocks", int),
        num_heads=fields.get("transformer_attention_heads", int),
        num_kv_heads=fields.get("transformer_kv_heads", int),
        expert_width=fields.get("transformer_linear_units", int),
    )


def talker_slots(shapes: Mapping[str, Shape], config: TalkerConfig) -> dict[str, Slot]:
    """Released key, without its prefix -> where it belongs."""
    return {
        key: Slot(parameter, index, indexed(shape, index))
        for parameter, shape in shapes.items()
        for key, index in _parts(parameter, shape, config)
    }


def _parts(parameter: str, shape: Shape, config: TalkerConfig) -> Iterator[tuple[str, Index]]:
    in_layer = re.fullmatch(r"layers\.(\d+)\.(.+)", parameter)
    if in_layer is None:
        yield _WHOLE[parameter], ()
        return
    for key, index in _parts_of_layer(in_layer[2], shape, config):
        yield f"layers.{in_layer[1]}.{key}", index


def _parts_of_layer(name: str, shape: Shape, config: TalkerConfig) -> Iterator[tuple[str, Index]]:
    if name in _WHOLE_IN_LAYER:
        yield _WHOLE_IN_LAYER[name], ()
    elif name.startswith("attention.qkv_proj."):
        heads = (config.num_heads, config.num_kv_heads, config.num_kv_heads)
        spans = consecutive([count * config.head_dim for count in heads])
        for letter, span in zip("qkv", spans, strict=True):
            yield f"self_attn.{letter}_proj.{name.rpartition('.')[2]}", (span,)
    elif name == "moe.down":
        for expert in range(shape[0]):
            yield f"{_EXPERTS}.{expert}.down_proj.weight", (expert,)
    else:
        assert name == "moe.gate_up", name
        for expert in range(shape[0]):
            for half, span in gate_and_up(shape[1]):
                yield f"{_EXPERTS}.{expert}.{half}_proj.weight", (expert, span)
