"""Slots: where every stored tensor of a checkpoint belongs among our parameters.

In:  the shapes of our parameters by name, and the configuration.
Out: checkpoint key -> `Slot`, and a `TensorReport` of what fits and what does not.
Ours are fused (q, k, v in one matrix, gate and up in one, experts stacked), so a stored tensor is a
part `parameter[where]` of one of ours.  Loading, saving and converting all walk this table.
Source: released state dict (docs/sources.md#state-dict).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from unimoe.config import CoreConfig

Shape = tuple[int, ...]
Index = tuple[int | slice, ...]


class Slot(NamedTuple):
    """The place of one stored tensor."""

    parameter: str
    where: Index
    """`parameter[where]` is the stored tensor; () is all of it."""
    shape: Shape


class Misfit(NamedTuple):
    """A stored tensor that cannot fill its slot."""

    key: str
    wanted: str
    found: str


LEFT_ASIDE = {
    "speech head": ("speech_generator.",),
    "image head": (
        "image_generator.",
        "visual_hidden_fcs.",
        "image_hidden_fcs.",
        "task_hidden_fcs.",
    ),
}
"""Parts of released checkpoints that are known and not loaded yet: prefixes of their keys."""

_RECOMPUTED = (".rotary_emb.inv_freq", ".position_ids")
EMBEDDING_KEY = "model.embed_tokens.weight"
HEAD_KEY = "lm_head.weight"

_OUTSIDE_LAYERS = {
    "core.embed_tokens.": "model.embed_tokens.",
    "core.norm.": "model.norm.",
    "core.lm_head.": "lm_head.",
    "vision.tower.": "vision_tower.vision_tower.vision_model.",
    "vision.aligner.": "vision_aligner.",
    "audio.tower.": "audio_tower.audio_tower.",
    "audio.qformer.query_tokens": "audio_aligner.query_tokens",
    "audio.qformer.decoder.": "audio_aligner.decoder.audio_decoder.",
    "audio.qformer.projector.": "audio_aligner.projector.",
}
_WHOLE_IN_LAYER = {
    "input_norm.weight": "input_layernorm.weight",
    "post_attention_norm.weight": "post_attention_layernorm.weight",
    "attention.o_proj.weight": "self_attn.o_proj.weight",
    "ffn.down_proj.weight": "mlp.down_proj.weight",
    "ffn.router.weight": "mlp.gate.weight",
}
_EXPERTS = {
    "routed": "mlp.dynamic_real_moe.deepspeed_moe.experts.deepspeed_experts",
    "shared": "mlp.fixed_real_moe",
}


def own_slots(shapes: Mapping[str, Shape]) -> dict[str, Slot]:
    """Our own dialect: every parameter under its own name, whole."""
    return {name: Slot(name, (), shape) for name, shape in shapes.items()}


def transformers_slots(shapes: Mapping[str, Shape], core: CoreConfig) -> dict[str, Slot]:
    """Released checkpoints, and dense Qwen2 and Llama ones, whose core has the same names.

    For two query heads and one key and value head of 4 channels each,
    `model.layers.0.self_attn.k_proj.weight` is
    `Slot("core.layers.0.attention.qkv_proj.weight", (slice(8, 12),), (4, hidden))`.
    """
    return {
        key: Slot(parameter, index, indexed(shape, index))
        for parameter, shape in shapes.items()
        for key, index in _parts(parameter, shape, core)
    }


def _parts(parameter: str, shape: Shape, core: CoreConfig) -> Iterator[tuple[str, Index]]:
    in_layer = re.fullmatch(r"core\.layers\.(\d+)\.(.+)", parameter)
    if in_layer is None:
        yield _outside_layers(parameter), ()
        return
    for key, index in _parts_of_layer(in_layer[2], shape, core):
        yield f"model.layers.{in_layer[1]}.{key}", index


def _outside_layers(parameter: str) -> str:
    for ours, theirs in _OUTSIDE_LAYERS.items():
        if parameter.startswith(ours):
            return theirs + parameter.removeprefix(ours)
    raise KeyError(f"no name in the released dialect for {parameter}")


def _parts_of_layer(name: str, shape: Shape, core: CoreConfig) -> Iterator[tuple[str, Index]]:
    if name in _WHOLE_IN_LAYER:
        yield _WHOLE_IN_LAYER[name], ()
    elif name.startswith("attention.qkv_proj."):
        heads = (core.num_heads, core.num_kv_heads, core.num_kv_heads)
        rows = consecutive([count * core.head_dim for count in heads])
        for letter, span in zip("qkv", rows, strict=True):
            yield f"self_attn.{letter}_proj.{name.rpartition('.')[2]}", (span,)
    elif name == "ffn.gate_up_proj.weight":
        for half, span in gate_and_up(shape[0]):
            yield f"mlp.{half}_proj.weight", (span,)
    else:
        yield from _parts_of_experts(name, shape)


def _parts_of_experts(name: str, shape: Shape) -> Iterator[tuple[str, Index]]:
    kind, _, matrix = name.removeprefix("ffn.").partition("_")
    for expert in range(shape[0]):
        prefix = f"{_EXPERTS[kind]}.{expert}"
        if matrix == "down":
            yield f"{prefix}.down_proj.weight", (expert,)
            continue
        for half, span in gate_and_up(shape[1]):
            yield f"{prefix}.{half}_proj.weight", (expert, span)


def gate_and_up(rows: int) -> Iterator[tuple[str, slice]]:
    """The two halves of a fused SwiGLU matrix, by name."""
    return zip(("gate", "up"), consecutive([rows // 2, rows // 2]), strict=True)


def consecutive(lengths: list[int]) -> list[slice]:
    """Spans of these lengths, one behind the other."""
    ends = [sum(lengths[: count + 1]) for count in range(len(lengths))]
    return [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]


def indexed(shape: Shape, index: Index) -> Shape:
    """Shape of `tensor[index]`."""
    kept = [
        part.stop - part.start
        for part in index
        if isinstance(part, slice)  # a number takes its axis away
    ]
    return (*kept, *shape[len(index) :])


@dataclass(frozen=True)
class TensorReport:
    """How the tensors of a checkpoint and the slots of a model fit together."""

    num_loaded: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshaped: tuple[Misfit, ...]
    left_aside: Mapping[str, tuple[str, ...]]
    """Keys of parts that are recognised and not loaded yet; they do not make a load fail."""
    redundant: tuple[str, ...]
    """Stored buffers that are computed, and a copy of tied embeddings; not needed."""

    @property
    def is_complete(self) -> bool:
        """Every slot is filled and every stored tensor accounted for."""
        return not (self.missing or self.unexpected or self.misshaped)

    def table(self, first: int = 8) -> str:
        """Counts by part and the first few keys of every kind of fault, one line each."""
        faults = {
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "misshaped": [
                f"{misfit.key}: need {misfit.wanted}, found {misfit.found}"
                for misfit in self.misshaped
            ],
        }
        lines = [f"{self.num_loaded} tensors fit"]
        for kind, entries in faults.items():
            lines += _listed(kind, entries, first)
        lines += [
            f"not loaded yet: {group}, {len(keys)} tensors"
            for group, keys in self.left_aside.items()
        ]
        return "\n".join(lines)


def compare(
    slots: Mapping[str, Slot],
    stored: Mapping[str, Shape],
    *,
    foreign: Mapping[str, str],
    ties_embeddings: bool,
    aside: Mapping[str, tuple[str, ...]] = LEFT_ASIDE,
) -> TensorReport:
    """The report of a checkpoint, from names and shapes alone.

    Args:
        slots: what the model needs.
        stored: what the checkpoint holds.
        foreign: stored tensors of a type that holds no plain numbers (quantised), and that type.
        ties_embeddings: a stored output matrix is then a copy of the embeddings.
        aside: parts that are recognised and not loaded, by the prefixes of their keys.
    """
    extra = [key for key in stored if key not in slots]
    left_aside = {
        group: tuple(key for key in extra if key.startswith(prefixes))
        for group, prefixes in aside.items()
    }
    set_aside = {key for keys in left_aside.values() for key in keys}
    is_tied = ties_embeddings and EMBEDDING_KEY in slots
    redundant = tuple(
        key for key in extra if key.endswith(_RECOMPUTED) or (is_tied and key == HEAD_KEY)
    )
    misfits = [_misfit(key, slot, stored, foreign) for key, slot in slots.items()]
    misshaped = tuple(misfit for misfit in misfits if misfit is not None)
    return TensorReport(
        num_loaded=sum(key in stored for key in slots) - len(misshaped),
        missing=tuple(key for key in slots if key not in stored),
        unexpected=tuple(key for key in extra if key not in set_aside and key not in redundant),
        misshaped=misshaped,
        left_aside={group: keys for group, keys in left_aside.items() if keys},
        redundant=redundant,
    )


def _misfit(
    key: str, slot: Slot, stored: Mapping[str, Shape], foreign: Mapping[str, str]
) -> Misfit | None:
    if key in stored and stored[key] != slot.shape:
        return Misfit(key, str(list(slot.shape)), str(list(stored[key])))
    if key in foreign:
        return Misfit(key, "a floating-point type", foreign[key])
    return None


def _listed(kind: str, entries: list[str], first: int) -> list[str]:
    if not entries:
        return []
    parts = ", ".join(f"{part} {count}" for part, count in _by_part(entries).items())
    more = [f"  ... and {len(entries) - first} more"] if len(entries) > first else []
    return [
        f"{len(entries)} {kind} ({parts}):",
        *(f"  {entry}" for entry in entries[:first]),
        *more,
    ]


def _by_part(keys: Iterable[str]) -> Counter[str]:
    return Counter(part_of(key) for key in keys)


def part_of(key: str) -> str:
    """The part of the model a key of any dialect names: core, vision, audio, or its first word."""
    first = key.partition(".")[0]
    if first in {"model", "lm_head"}:
        return "core"
    return first.removesuffix("_tower").removesuffix("_aligner")
