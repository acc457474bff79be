"""What a checkpoint is, how large, and what it needs: told without reading its weights.

In:  a directory or GGUF file; `config.json` alone is enough.  Out: `Inspection`, and its text.
Sizes come from the model on the meta device, tensors from file headers, so 33 B parameters take
seconds and no memory.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from unimoe.checkpoint.dialects import dialect_of
from unimoe.checkpoint.directory import (
    config_values,
    open_checkpoint,
    read_config,
    slots_in,
)
from unimoe.checkpoint.slots import Shape, TensorReport, compare
from unimoe.checkpoint.storage import listed_keys, unsafe_weights
from unimoe.checkpoint.weights import DTYPES
from unimoe.config import CoreConfig, OmniConfig, RouterConfig
from unimoe.model.allocate import parameter_shapes
from unimoe.nn.router import route

BYTES_PER_NUMBER = {name: dtype.itemsize for name, dtype in DTYPES.items()}
"""Of every type a model can be loaded in."""
_SAMPLED_TOKENS = 4096

_PARTS = (
    ("core.embed_tokens.", "core: embeddings and head"),
    ("core.lm_head.", "core: embeddings and head"),
    (".ffn.routed_", "core: routed experts"),
    (".ffn.shared_", "core: shared experts"),
    (".ffn.router.", "core: routers"),
    (".ffn.", "core: dense feed-forward"),
    ("core.", "core: attention and norms"),
    ("vision.", "vision: tower and aligner"),
    ("audio.tower.", "audio: encoder"),
    ("audio.qformer.", "audio: Q-Former and projector"),
    ("audio.writer.", "audio: writer"),
)


class ActiveParameters(NamedTuple):
    """Parameters of the core that one token of text passes through, its embeddings included."""

    minimum: int
    typical: int
    """At the mean number of routed experts for a router without preferences."""
    maximum: int
    routed_experts: tuple[int, float, int]
    """Routed experts a layer in each of these cases."""


@dataclass(frozen=True)
class Inspection:
    """A checkpoint at a glance."""

    path: Path
    model_type: str
    config: OmniConfig
    parts: Mapping[str, int]
    """Parameters of the model, by part."""
    active: ActiveParameters
    stored: Mapping[str, int]
    """Stored numbers by type; empty when there are no weights beside the configuration."""
    left_aside: Mapping[str, int]
    """Stored numbers of parts that are known and not loaded yet."""
    report: TensorReport | None
    """What fits; from the names of the index when the shards are not there; None: no weights."""
    has_shapes: bool
    """The report rests on the headers of the files, not on the names of an index alone."""
    refusal: str | None
    """Why the weights beside the configuration are not read; None: they are, or there are none."""

    @property
    def num_parameters(self) -> int:
        """Of the model as we load it."""
        return sum(self.parts.values())

    @property
    def weight_bytes(self) -> dict[str, int]:
        """Memory of the weights by type."""
        return {name: self.num_parameters * size for name, size in BYTES_PER_NUMBER.items()}

    @property
    def cache_bytes_per_1000_tokens(self) -> dict[str, int]:
        """Memory of keys and values by type."""
        core = self.config.core
        numbers = 2 * core.num_layers * core.num_kv_heads * core.head_dim * 1000
        return {name: numbers * size for name, size in BYTES_PER_NUMBER.items()}


def describe(path: str | Path) -> Inspection:
    """Inspect a checkpoint, with its weights, with their index alone, or without either.

    Raises:
        CheckpointError: no configuration that we can follow, or damaged files.
    """
    path = Path(path)
    if not _shards_are_there(path):
        return _without_shapes(path)
    checkpoint = open_checkpoint(path)
    report, tensors = checkpoint.report, checkpoint.tensors
    shapes = parameter_shapes(checkpoint.config)
    sizes = {key: _num_numbers(shape) for key, shape in tensors.shapes.items()}
    stored: Counter[str] = Counter()
    for key, size in sizes.items():
        stored[tensors.stored_types[key]] += size
    return Inspection(
        path=path,
        model_type="gguf" if path.is_file() else config_values(path)["model_type"],
        config=checkpoint.config,
        parts=_parts(shapes),
        active=_active(shapes, checkpoint.config.core),
        stored=dict(stored),
        left_aside={
            group: sum(sizes[key] for key in keys) for group, keys in report.left_aside.items()
        },
        report=report,
        has_shapes=True,
        refusal=None,
    )


def render(inspection: Inspection) -> str:
    """The inspection as plain text, for a terminal."""
    sections = [
        _architecture(inspection),
        _parameters(inspection),
        _memory(inspection),
        _tensors(inspection),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections)


def _shards_are_there(path: Path) -> bool:
    """False for a configuration alone, and for an index without a single one of its shards."""
    return path.is_file() or any(path.glob("*.safetensors"))


def _without_shapes(path: Path) -> Inspection:
    values, config, names = config_values(path), read_config(path), listed_keys(path)
    shapes = parameter_shapes(config)
    report = None
    if names is not None:
        slots = slots_in(dialect_of(values), config)
        report = compare(
            slots,
            {key: slots[key].shape if key in slots else () for key in sorted(names)},
            foreign={},
            ties_embeddings=config.core.ties_embeddings,
        )
    return Inspection(
        path=path,
        model_type=values["model_type"],
        config=config,
        parts=_parts(shapes),
        active=_active(shapes, config.core),
        stored={},
        left_aside={},
        report=report,
        has_shapes=False,
        refusal=unsafe_weights(path) if names is None else None,
    )


def _num_numbers(shape: Shape) -> int:
    return torch.Size(shape).numel()


def _parts(shapes: Mapping[str, Shape]) -> dict[str, int]:
    parts: Counter[str] = Counter()
    for name, shape in shapes.items():
        parts[next(part for sign, part in _PARTS if sign in name)] += _num_numbers(shape)
    return dict(parts)


def _active(shapes: Mapping[str, Shape], core: CoreConfig) -> ActiveParameters:
    """All of the core but the routed experts, and so many of these."""
    of_core = {name: _num_numbers(shape) for name, shape in shapes.items() if name[:5] == "core."}
    whole = sum(of_core.values())
    if core.moe is None:
        return ActiveParameters(whole, whole, whole, (0, 0.0, 0))
    routed = sum(size for name, size in of_core.items() if ".ffn.routed_" in name)
    one_each = routed // core.moe.router.num_routed
    fewest, typical, most = _routed_experts(core.moe.router)
    always = whole - routed
    return ActiveParameters(
        minimum=always + fewest * one_each,
        typical=always + round(typical * one_each),
        maximum=always + most * one_each,
        routed_experts=(fewest, typical, most),
    )


def _routed_experts(router: RouterConfig) -> tuple[int, float, int]:
    """Fewest, usual and most routed experts of a token; usual: over unit-normal router logits."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(_SAMPLED_TOKENS, router.num_columns, generator=generator)
    taken = route(logits, router).mask[:, : router.num_routed].sum(-1)
    # Top-p takes most when nothing stands out, and a single one when something does.
    undecided = int(route(torch.zeros_like(logits[:1]), router).num_selected)
    fewest = 1 if router.top_k is None else router.top_k
    return (
        max(fewest - router.num_null, 0),
        float(taken.float().mean()),
        min(undecided, router.num_routed),
    )


def _architecture(inspection: Inspection) -> list[str]:
    core, vision, audio = (
        inspection.config.core,
        inspection.config.vision,
        inspection.config.audio,
    )
    lines = [
        f"{inspection.path}: {inspection.model_type}",
        f"core    {core.num_layers} layers, hidden {core.hidden_size}, heads {core.num_heads}/"
        f"{core.num_kv_heads} of {core.head_dim}, vocabulary {core.vocab_size}, "
        f"{core.max_positions} positions",
    ]
    if core.moe is None:
        lines.append(f"        dense feed-forward {core.ffn_width}")
    else:
        router = core.moe.router
        choice = f"top-p {router.top_p}" if router.top_k is None else f"top-{router.top_k}"
        lines.append(
            f"        experts: {router.num_routed} routed of {core.moe.routed_width}, "
            f"{router.num_null} null, {router.num_shared} shared of {core.moe.shared_width}; "
            f"{choice}, rule {router.rule}"
        )
    if core.dense_layers:
        numbers = ", ".join(map(str, sorted(core.dense_layers)))
        lines.append(f"        without experts: layers {numbers}, feed-forward {core.ffn_width}")
    if vision is not None:
        lines.append(
            f"vision  {vision.tower}, {vision.num_layers} layers, hidden {vision.hidden_size}, "
            f"tiles of {vision.image_side} px, {vision.tokens_per_tile} tokens each"
        )
    if audio is not None:
        lines.append(
            f"audio   Whisper, {audio.encoder_layers}+{audio.decoder_layers} layers, hidden "
            f"{audio.hidden_size}, {audio.queries_per_clip} tokens a clip"
        )
    return lines


def _parameters(inspection: Inspection) -> list[str]:
    lines = [f"parameters{_count(inspection.num_parameters):>33}"]
    lines += [f"  {part:<31}{_count(number):>10}" for part, number in inspection.parts.items()]
    active = inspection.active
    fewest, typical, most = active.routed_experts
    if inspection.config.core.moe is not None:
        lines.append(
            f"  active in the core per token: {_count(active.minimum)} with {fewest} routed "
            f"experts, {_count(active.typical)} with {typical:.1f}, "
            f"{_count(active.maximum)} with {most}"
        )
    lines += [
        f"  {_count(number)} more stored in the {group}, not loaded yet"
        for group, number in inspection.left_aside.items()
    ]
    return lines


def _memory(inspection: Inspection) -> list[str]:
    weights = ", ".join(f"{name} {_gb(size)}" for name, size in inspection.weight_bytes.items())
    cache = ", ".join(
        f"{name} {_gb(size)}" for name, size in inspection.cache_bytes_per_1000_tokens.items()
    )
    return [f"memory  weights: {weights}", f"        keys and values per 1000 tokens: {cache}"]


def _tensors(inspection: Inspection) -> list[str]:
    if inspection.refusal is not None:
        return [f"tensors  NOT readable: {inspection.refusal}"]
    if inspection.report is None:
        return ["tensors  no weights here, only the configuration"]
    basis = "" if inspection.has_shapes else " (names of the index only; its shards are not here)"
    stored = ", ".join(f"{_count(number)} {name}" for name, number in inspection.stored.items())
    verdict = "complete" if inspection.report.is_complete else "NOT complete"
    lines = [f"tensors  {verdict}{basis}{f'; stored: {stored}' if stored else ''}"]
    return lines + [f"  {line}" for line in inspection.report.table().splitlines()]


def _count(number: int) -> str:
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3f} {letter}"
    return str(number)


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.2f} MB"
