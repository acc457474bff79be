"""Fields of a foreign `config.json`, read one by one, each with its type.

In:  a JSON object.  Out: `Fields`, and the core that Qwen2, Llama and released models share.
Source: transformers' configuration of Qwen2 and Llama (docs/sources.md#config).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, overload

from unimoe.config import CoreConfig, MoEConfig, SpecialTokens
from unimoe.errors import CheckpointError

Value = TypeVar("Value", int, float, str, bool)


class Fields:
    """A JSON object read field by field, each with its type."""

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        self._values = values
        self._path = path

    @overload
    def get(self, name: str, kind: type[Value]) -> Value: ...
    @overload
    def get(self, name: str, kind: type[Value], default: Value) -> Value: ...
    @overload
    def get(self, name: str, kind: type[Value], default: None) -> Value | None: ...
    def get(self, name: str, kind: type[Value], default: Any = dataclasses.MISSING) -> Any:
        """The field; absent or null gives the default. Negative numbers have no place here."""
        value = self._values.get(name)
        if value is None:
            if default is dataclasses.MISSING:
                raise CheckpointError(f"config lacks {self._path}{name}")
            return default
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise CheckpointError(f"{self._path}{name} is {value!r}; need {kind.__name__}")
        if isinstance(value, int | float) and value < 0:
            raise CheckpointError(f"{self._path}{name} is {value!r}; need 0 or more")
        return value

    def group(self, name: str) -> "Fields":
        """A nested object; absent reads as empty."""
        value = self._values.get(name) or {}
        if not isinstance(value, Mapping):
            raise CheckpointError(f"{self._path}{name} is {value!r}; need a group of fields")
        return Fields(value, f"{self._path}{name}.")

    def numbers(self, name: str, count: int, default: list[float] | None = None) -> list[Any]:
        """A list of so many numbers."""
        value = self._values.get(name, default)
        if (
            not isinstance(value, list)
            or len(value) != count
            or not all(isinstance(each, int | float) for each in value)
        ):
            raise CheckpointError(f"{self._path}{name} is {value!r}; need {count} numbers")
        return value

    def token(self, name: str) -> int | None:
        """A token id; of several (some checkpoints list them) the first."""
        value = self._values.get(name)
        if isinstance(value, list) and value:
            return Fields({name: value[0]}, self._path).token(name)
        return self.get(name, int, None)

    def refuse(self, name: str, *harmless: Any) -> None:
        """Stop at a field whose value asks for something we do not do."""
        value = self._values.get(name)
        if value is not None and value not in harmless:
            fine = ", ".join(dict.fromkeys(repr(each) for each in harmless if each != {}))
            raise CheckpointError(
                f"{self._path}{name} is {value!r}, which is not supported; "
                f"supported is {f'{fine}, or ' if fine else 'only '}a model without this field"
            )


def text_rope_sections(head_dim: int) -> tuple[int, int, int]:
    """Sections for a model that only knew text: an equal position on all axes makes them alike.

    In the proportion 2 : 3 : 3 of the released model, (16, 24, 24) for heads of 128 channels.
    """
    half = head_dim // 2
    side = 3 * half // 8
    return (half - 2 * side, side, side)


def core_config(
    fields: Fields,
    *,
    has_qkv_bias: bool,
    sections: tuple[int, int, int] | None,
    moe: MoEConfig | None,
) -> CoreConfig:
    """The decoder, under the names that all Qwen2 and Llama descendants use."""
    heads = fields.get("num_attention_heads", int)
    head_dim = fields.get("head_dim", int, None) or fields.get("hidden_size", int) // heads
    theta = fields.group("rope_parameters").get("rope_theta", float, 10_000.0)
    return CoreConfig(
        vocab_size=fields.get("vocab_size", int),
        hidden_size=fields.get("hidden_size", int),
        num_layers=fields.get("num_hidden_layers", int),
        num_heads=heads,
        num_kv_heads=fields.get("num_key_value_heads", int, heads),
        head_dim=head_dim,
        ffn_width=fields.get("intermediate_size", int),
        rms_norm_eps=fields.get("rms_norm_eps", float, 1e-6),
        rope_theta=fields.get("rope_theta", float, theta),
        rope_sections=sections or text_rope_sections(head_dim),
        has_qkv_bias=has_qkv_bias,
        ties_embeddings=fields.get("tie_word_embeddings", bool, False),
        max_positions=fields.get("max_position_embeddings", int, 32_768),
        moe=moe,
    )


def text_tokens(fields: Fields) -> SpecialTokens:
    """Tokens of a model that knows only text; without a padding token the last one stands in."""
    end = fields.token("eos_token_id")
    if end is None:
        raise CheckpointError("config lacks eos_token_id")
    pad = fields.token("pad_token_id")
    return SpecialTokens(pad=end if pad is None else pad, end_of_turn=end)
