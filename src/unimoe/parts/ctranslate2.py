"""Whisper in CTranslate2's model.bin, as tensors of transformers' Whisper.

In:  model.bin of version 6: named arrays one after the other.
Out: float32 arrays under the names of WhisperForConditionalGeneration (`model.encoder.…`,
`model.decoder.…`); the output matrix is the decoder's embedding and is not repeated.
CTranslate2 stacks what is multiplied together: q, k and v in self-attention, k and v in attention
to the encoder. Whisper's keys have no bias; the zeros that stand in its place are dropped.
Source: CTranslate2 binary format; parameter names of transformers (docs/sources.md#parts).
"""

import re
import struct
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Shaped

from unimoe.errors import PartsError

Weights: TypeAlias = dict[str, Float32[np.ndarray, "..."]]

_VERSION = 6
_SPEC = "WhisperSpec"
_DTYPES: dict[int, type[np.generic]] = {
    0: np.float32,
    1: np.int8,
    2: np.int16,
    3: np.int32,
    4: np.float16,
}
_KINDS = {
    "weight": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "encodings": "weight",
}
_IN_STACK: dict[str, tuple[str, ...]] = {
    "conv1": ("conv1",),
    "conv2": ("conv2",),
    "embeddings": ("embed_tokens",),
    "position_encodings": ("embed_positions",),
    "layer_norm": ("layer_norm",),
}
_IN_LAYER: dict[str, tuple[str, ...]] = {
    "self_attention/layer_norm": ("self_attn_layer_norm",),
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "attention/layer_norm": ("encoder_attn_layer_norm",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
    "ffn/layer_norm": ("final_layer_norm",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
}
_SETTINGS = {
    "activation",
    "alibi",
    "alibi_use_positive_positions",
    "alignment_heads",
    "alignment_layer",
    "num_heads",
    "pre_norm",
    "scale_alibi",
    "scale_embeddings",
    "start_from_zero_embedding",
}
"""Small integers that describe the model; its configuration says the same."""


def read_model(path: Path, *further: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Every array of the file as it is stored, scalars included; aliases are left out.

    Args:
        path: of the file, or of the first of the pieces it was cut into.
        further: of the other pieces, in their order.

    Raises:
        PartsError: no model.bin of version 6 that holds a Whisper, or a damaged one.
    """
    try:
        data = b"".join(piece.read_bytes() for piece in (path, *further))
    except OSError as error:
        raise PartsError(f"{path}: cannot be read ({error})") from error
    try:
        return _parse(data)
    except (struct.error, UnicodeDecodeError, ValueError, IndexError) as error:
        raise PartsError(f"{path}: no Whisper of CTranslate2, or damaged ({error})") from error


def whisper_weights(path: Path, *further: Path) -> Weights:
    """Encoder and decoder, by transformers' names, in float32; arguments as of `read_model`.

    Raises:
        PartsError: as `read_model`; or an array that no name is known for.
    """
    weights: Weights = {}
    for name, stored in read_model(path, *further).items():
        if name.rpartition("/")[2] in _SETTINGS:
            continue
        if not np.issubdtype(stored.dtype, np.floating):
            raise PartsError(f"{path}: {name} is {stored.dtype}; need unquantised weights")
        weights |= _renamed(name, stored.astype(np.float32), path)
    return weights


def _renamed(name: str, values: Float32[np.ndarray, "..."], path: Path) -> Weights:
    """An array under transformers' name, or several where it is a stack of them."""
    found = re.fullmatch(r"(encoder|decoder)/(?:layer_(\d+)/)?(.+)/(\w+)", name)
    stack, layer, owner, kind = found.groups() if found else ("", None, "", "")
    owners = (_IN_STACK if layer is None else _IN_LAYER).get(owner)
    if owners is None or kind not in _KINDS:
        raise PartsError(f"{path}: {name} has no name in transformers; is this another model?")
    scope = f"model.{stack}." if layer is None else f"model.{stack}.layers.{layer}."
    return {
        f"{scope}{part}.{_KINDS[kind]}": piece
        for part, piece in zip(owners, np.split(values, len(owners)), strict=True)
        if not (part.endswith("k_proj") and kind == "bias")
    }


class _Cursor:
    """Reads values one after the other; struct.error where the bytes end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, layout: str) -> int:
        (value,) = struct.unpack_from(f"<{layout}", self._data, self._at)
        self._at += struct.calcsize(layout)
        return int(value)

    def text(self) -> str:
        return self.take(self.number("H")).rstrip(b"\0").decode()

    def take(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]


def _parse(data: bytes) -> dict[str, Shaped[np.ndarray, "..."]]:
    cursor = _Cursor(data)
    version = cursor.number("I")
    if version != _VERSION:
        raise ValueError(f"version {version}, need {_VERSION}")
    spec = cursor.text()
    if spec != _SPEC:
        raise ValueError(f"holds a {spec}, need a {_SPEC}")
    cursor.number("I")  # revision of the spec
    return dict(_array(cursor) for _ in range(cursor.number("I")))


def _array(cursor: _Cursor) -> tuple[str, Shaped[np.ndarray, "..."]]:
    name = cursor.text()
    shape = [cursor.number("I") for _ in range(cursor.number("B"))]
    dtype, size = cursor.number("B"), cursor.number("I")
    if dtype not in _DTYPES:
        raise ValueError(f"{name} is of unknown type {dtype}")
    # reshape refuses a size that is not that of the shape
    return name, np.frombuffer(cursor.take(size), _DTYPES[dtype]).reshape(shape)
