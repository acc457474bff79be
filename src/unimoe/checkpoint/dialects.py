"""Which dialect a configuration is written in, and how each is read.

In:  the object of a `config.json`.  Out: the dialect and an `OmniConfig`.
`unimoe` is our own; `released` is that of the published Uni-MoE-2.0 checkpoints; `dense` reads
Qwen2 and Llama language models.
"""

from collections.abc import Mapping
from typing import Any, Literal

from unimoe.checkpoint.fields import Fields, core_config, text_tokens
from unimoe.checkpoint.released import flat, read_released
from unimoe.config import OmniConfig, from_dict, to_dict
from unimoe.errors import CheckpointError, ConfigError

Dialect = Literal["unimoe", "released", "dense"]

_DIALECT_OF: dict[str, Dialect] = {
    "unimoe": "unimoe",
    "grin_qwen2_vl": "released",
    "grin_qwen2_vl_out": "released",
    "qwen2": "dense",
    "llama": "dense",
}
_ORIGIN = "origin"

_MAY_BE_ZERO = ("num_null", "num_shared", "aligner_layers", "colour_levels", "detail_side")
# Far beyond any real model; what lies above is a damaged or hostile file.
_MOST_LAYERS = 1024
_MOST_EXPERTS = 1024
_MOST_WIDTH = 2**20
_MOST_WORDS = 2**24


def dialect_of(values: Mapping[str, Any]) -> Dialect:
    """Which dialect a `config.json` is written in, told by its `model_type`.

    Raises:
        CheckpointError: a kind of model that we do not read.
    """
    model_type = values.get("model_type")
    if not isinstance(model_type, str) or model_type not in _DIALECT_OF:
        raise CheckpointError(
            f"model_type is {model_type!r}; readable are {', '.join(sorted(_DIALECT_OF))}"
        )
    return _DIALECT_OF[model_type]


def config_from_json(values: Mapping[str, Any]) -> OmniConfig:
    """The configuration a `config.json` describes, in whichever dialect.

    Raises:
        CheckpointError: an unreadable kind of model, a missing field, a value of the wrong type or
            size, or a feature that we would have to ignore.
    """
    readers = {"unimoe": _read_own, "released": read_released, "dense": _read_dense}
    try:
        config = readers[dialect_of(values)](values)
    except (ConfigError, ZeroDivisionError) as error:
        raise CheckpointError(f"impossible configuration: {error}") from error
    refuse_absurd(config)
    return config


def origin_of(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The released `config.json` behind a checkpoint, as it stood; None when there is none."""
    dialect = dialect_of(values)
    origin = values.get(_ORIGIN) if dialect == "unimoe" else values
    return dict(origin) if isinstance(origin, Mapping) and dialect != "dense" else None


def own_json(config: OmniConfig, origin: Mapping[str, Any] | None) -> dict[str, Any]:
    """The `config.json` of our dialect; `origin` is carried along for the way back."""
    values = {"model_type": "unimoe", **to_dict(config)}
    return values if origin is None else {**values, _ORIGIN: dict(origin)}


def _read_own(values: Mapping[str, Any]) -> OmniConfig:
    known = {name: value for name, value in values.items() if name not in ("model_type", _ORIGIN)}
    return from_dict(OmniConfig, known)


def _read_dense(values: Mapping[str, Any]) -> OmniConfig:
    fields = Fields(values)
    is_qwen = values["model_type"] == "qwen2"
    fields.refuse("hidden_act", "silu")
    fields.refuse("use_sliding_window", False)
    fields.refuse("attention_bias", is_qwen, False)
    fields.refuse("mlp_bias", False)
    fields.refuse("quantization_config", {})
    for group in ("rope_scaling", "rope_parameters"):
        fields.group(group).refuse("rope_type", "default")
        fields.group(group).refuse("type", "default")
        fields.group(group).refuse("partial_rotary_factor", 1.0)
    core = core_config(fields, has_qkv_bias=is_qwen, sections=None, moe=None)
    return OmniConfig(core=core, special_tokens=text_tokens(fields))


def refuse_absurd(config: OmniConfig) -> None:
    """Stop before a model is built whose size no checkpoint has.

    Raises:
        CheckpointError: naming the field, its value and the bound.
    """
    for name, value in flat(to_dict(config)).items():
        if not isinstance(value, int) or isinstance(value, bool) or name.startswith("special_"):
            continue
        leaf = name.rpartition(".")[2]
        least = 0 if leaf in _MAY_BE_ZERO or name.startswith("video") else 1
        if leaf.endswith("layers"):
            most = _MOST_LAYERS
        elif leaf in ("num_routed", "num_null", "num_shared"):
            most = _MOST_EXPERTS
        else:
            most = _MOST_WORDS if leaf in ("vocab_size", "max_positions") else _MOST_WIDTH
        if not least <= value <= most:
            raise CheckpointError(f"{name} is {value}; a checkpoint has {least} to {most}")
