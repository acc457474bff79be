"""Weights of the codec: WavTokenizer under its upstream names, complete or not at all.

In:  a directory with safetensors.  Out: a `Codec` in evaluation mode, in float32.
Encoder convolutions are stored as direction and length (weight norm); here they become the plain
matrices they stand for, once.
Source: WavTokenizer's state dict (docs/sources.md#codec).
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from unimoe.checkpoint.slots import Shape, Slot
from unimoe.checkpoint.storage import SafetensorsFiles
from unimoe.config import CodecConfig
from unimoe.heads.codec import Codec
from unimoe.heads.stored import require_fit

_ENCODER = "feature_extractor.encodec.encoder.model"
_CODEBOOK = "feature_extractor.encodec.quantizer.vq.layers.0._codebook"
_UNUSED = (
    "feature_extractor.encodec.decoder.",  # of the codec it grew from
    f"{_CODEBOOK}.inited",  # state of the codebook's training
    f"{_CODEBOOK}.cluster_size",
    f"{_CODEBOOK}.embed_avg",
    "multiperioddisc.",  # critics of its training
    "multiresddisc.",
    "dac.",
    "dacdiscriminator.",
    "melspec_loss.",
)
"""Prefixes of what published state dicts carry along and nothing here needs."""

_OUTSIDE_ENCODER = {
    "codebook.weight": f"{_CODEBOOK}.embed",
    "head.window": "head.istft.window",
}
_IN_UNIT = {"narrow": "block.1", "widen": "block.3", "across": "shortcut"}


def load_codec(directory: str | Path, config: CodecConfig | None = None) -> Codec:
    """The codec of a directory.

    Args:
        directory: one safetensors file, or shards with an index.
        config: None takes that of the published large model.

    Raises:
        CheckpointError: a tensor is missing, misshaped or unknown, or the files are unreadable.
    """
    directory = Path(directory)
    files = SafetensorsFiles(directory)
    codec = Codec(config or CodecConfig())
    state = codec.state_dict()
    slots = codec_slots({name: tuple(each.shape) for name, each in state.items()}, codec.config)
    stored = {key: key for key in files.shapes if not key.startswith(_UNUSED)}
    require_fit(slots, files, stored, f"the codec in {directory}")
    with torch.no_grad():
        for key, slot in slots.items():
            if key.endswith("weight_g"):
                continue
            value = files.read(key).float()
            if key.endswith("weight_v"):
                value = _scaled(value, files.read(f"{key[:-1]}g").float())
            state[slot.parameter].copy_(value)
    return codec.eval()


def codec_slots(shapes: Mapping[str, Shape], config: CodecConfig) -> dict[str, Slot]:
    """Upstream key -> where it belongs; both parts of a weight norm belong to one parameter."""
    return {
        key: Slot(name, (), wanted)
        for name, shape in shapes.items()
        for key, wanted in _parts(name, shape, config)
    }


def _parts(name: str, shape: Shape, config: CodecConfig) -> Iterator[tuple[str, Shape]]:
    in_encoder = re.fullmatch(r"encoder\.([\w.]+)\.(\w+)", name)
    if in_encoder is None:
        yield _OUTSIDE_ENCODER.get(name, name), shape
        return
    module, leaf = in_encoder.groups()
    key = f"{_ENCODER}.{_encoder_key(module, len(config.strides))}"
    if leaf == "weight":
        yield f"{key}.weight_g", (shape[0], 1, 1)
        yield f"{key}.weight_v", shape
    else:
        yield f"{key}.{leaf}", shape


def _encoder_key(module: str, num_stages: int) -> str:
    """Upstream counts activations too: first, then unit, -, down in every stage, lstm, -, last."""
    kind, *rest = module.split(".")
    if kind == "units":
        return f"{1 + 3 * int(rest[0])}.{_IN_UNIT[rest[1]]}.conv.conv"
    if kind == "lstm":
        return f"{1 + 3 * num_stages}.lstm"
    index = {"first": 0, "last": 3 + 3 * num_stages}
    return f"{index[kind] if kind in index else 3 + 3 * int(rest[0])}.conv.conv"


def _scaled(direction: Tensor, length: Tensor) -> Tensor:
    """Weight norm undone: every output channel has the direction given and the length given."""
    scale: Tensor = length / direction.norm(dim=(1, 2), keepdim=True)
    return direction * scale
