"""Weights of the image head: from a released checkpoint, strictly, under their released names.

In:  named tensors of a checkpoint.  Out: a `TaskDiT` (or its `DiT` alone) filled tensor by tensor.
Released configurations do not tell the sizes of this head, so they are read off the shapes.
What lies beside it in the checkpoint (core, encoders, autoencoder, speech) is not looked at.
Source: released state dict (docs/sources.md#image-weights).
"""

import re
from collections.abc import Iterator, Mapping
from typing import TypeVar

import torch

from unimoe.checkpoint.slots import Index, Shape, Slot, indexed
from unimoe.checkpoint.storage import TensorSource
from unimoe.config import DiTConfig, TaskDiTConfig
from unimoe.errors import CheckpointError, ConfigError
from unimoe.heads.dit import DiT
from unimoe.heads.stored import require_fit
from unimoe.heads.task_dit import TaskDiT

RELEASED_KEPT_TOKENS = 256
PATCH_SIDE = 2
_DIT = "image_generator.model."
_PROJECTORS = {
    "content_projector.": "image_hidden_fcs.0.",
    "task_projector.": "task_hidden_fcs.0.",
    "visual_projector.": "visual_hidden_fcs.0.model.",
}
_IN_PROJECTOR = {
    "in_proj.": "in_fc.",
    "out_proj.": "out_fc.",
    "queries": "query_embs",
    "encoder.": "tfm.encoder.",
    "decoder.": "tfm.decoder.",
}
_OUTSIDE_LAYERS = {
    "patch_embedder.": "x_embedder.",
    "time_embedder.": "t_embedder.",
    "task_embedder.": "task_embedder.",
    "image_embedder.": "global_semantic_embedder.",
    "final.linear.": "final_layer.linear.",
    "final.modulation.": "final_layer.adaLN_modulation.1.",
    "pad_token": "pad_token",
}
_IN_LAYER = {
    "modulation.": "adaLN_modulation.1.",
    "sampler.image_proj.": "input_image_proj.",
    "sampler.task_proj.": "y_pool_proj.",
    "sampler.norm.": "in_conv.0.",
    "sampler.features.0.": "in_conv.1.",
    "sampler.score.": "out_conv.",
    "image_norm.": "attention_input_norm.",
    "prompt_norm.": "attention_y_norm.",
    "attention_norm.": "attention_norm1.",
    "attention_out_norm.": "attention_norm2.",
    "ffn_norm.": "ffn_norm1.",
    "ffn_out_norm.": "ffn_norm2.",
    "ffn.down_proj.": "feed_forward.w2.",
    "attention.q_proj.": "attention.wq.",
    "attention.k_proj.": "attention.wk.",
    "attention.v_proj.": "attention.wv.",
    "attention.o_proj.": "attention.wo.",
    "attention.q_norm.": "attention.q_norm.",
    "attention.k_norm.": "attention.k_norm.",
    "attention.image_k_proj.": "attention.wk_ii.",
    "attention.image_v_proj.": "attention.wv_ii.",
    "attention.image_k_norm.": "attention.kii_norm.",
    "attention.image_gate": "attention.gate_for_ii",
    "attention.text_k_proj.": "attention.wk_y.",
    "attention.text_v_proj.": "attention.wv_y.",
    "attention.text_k_norm.": "attention.ky_norm.",
    "attention.text_gate": "attention.gate",
}

Head = TypeVar("Head", DiT, TaskDiT)


def load_task_dit(
    source: TensorSource,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    num_kept_tokens: int = RELEASED_KEPT_TOKENS,
) -> TaskDiT:
    """The image head of a released checkpoint, in evaluation mode.

    Args:
        source: the checkpoint's tensors.
        dtype: of the whole head.
        device: where it lives.
        num_kept_tokens: source-image tokens a layer keeps; no shape tells.

    Raises:
        CheckpointError: a tensor of the head is missing, misshaped or unknown.
    """
    config = task_dit_config(source.shapes, num_kept_tokens=num_kept_tokens)
    prefixes = (_DIT, "image_hidden_fcs.", "task_hidden_fcs.", "visual_hidden_fcs.")
    with torch.device("meta"):
        head = TaskDiT(config)
    return _filled(head, source, prefixes, dtype, device)


def load_dit(
    source: TensorSource,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    num_kept_tokens: int = RELEASED_KEPT_TOKENS,
) -> DiT:
    """The diffusion transformer alone; as `load_task_dit`."""
    config = dit_config(source.shapes, num_kept_tokens=num_kept_tokens)
    with torch.device("meta"):
        dit = DiT(config)
    return _filled(dit, source, (_DIT,), dtype, device)


def task_dit_config(shapes: Mapping[str, Shape], *, num_kept_tokens: int) -> TaskDiTConfig:
    """The configuration of the image head whose tensors have these shapes.

    Raises:
        CheckpointError: a tensor that tells a size is missing, or the sizes fit no such head.
    """
    content = _PROJECTORS["content_projector."]
    dit = dit_config(shapes, num_kept_tokens=num_kept_tokens)
    try:
        return TaskDiTConfig(
            dit=dit,
            core_width=_extent(shapes, f"{content}in_fc.weight", 1),
            num_prompt_tokens=_extent(shapes, f"{content}query_embs", 1),
            projector_width=_extent(shapes, f"{content}in_fc.weight", 0),
            projector_layers=_count_layers(shapes, f"{content}tfm.encoder.layers."),
        )
    except ConfigError as error:
        raise CheckpointError(f"the projectors of the image head: {error}") from error


def dit_config(shapes: Mapping[str, Shape], *, num_kept_tokens: int) -> DiTConfig:
    """The configuration of the diffusion transformer whose tensors have these shapes.

    Raises:
        CheckpointError: a tensor that tells a size is missing, or the sizes fit no such network.
    """
    layer = f"{_DIT}layers.0."
    hidden_size, patch_width = (
        _extent(shapes, f"{_DIT}x_embedder.weight", axis) for axis in (0, 1)
    )
    num_heads = _extent(shapes, f"{layer}attention.gate", 0)
    try:
        return DiTConfig(
            hidden_size=hidden_size,
            num_layers=_count_layers(shapes, f"{_DIT}layers."),
            num_heads=num_heads,
            num_kv_heads=_extent(shapes, f"{layer}attention.wk.weight", 0)
            * num_heads
            // hidden_size,
            ffn_width=_extent(shapes, f"{layer}feed_forward.w1.weight", 0),
            condition_width=_extent(shapes, f"{_DIT}t_embedder.mlp.2.weight", 0),
            prompt_width=_extent(shapes, f"{layer}attention.wk_y.weight", 1),
            task_width=_extent(shapes, f"{_DIT}task_embedder.1.weight", 1),
            image_width=_extent(shapes, f"{layer}input_image_proj.weight", 1),
            latent_channels=patch_width // (2 * PATCH_SIDE**2),
            patch_side=PATCH_SIDE,
            num_kept_tokens=num_kept_tokens,
        )
    except ConfigError as error:
        raise CheckpointError(f"the diffusion transformer of the image head: {error}") from error


def image_slots(shapes: Mapping[str, Shape]) -> dict[str, Slot]:
    """Released key -> its place among the parameters of a `TaskDiT`.

    The released `w1` and `w3` of a feed-forward block are the halves of one matrix of ours:
    `image_generator.model.layers.0.feed_forward.w3.weight` is
    `Slot("dit.layers.0.ffn.gate_up_proj.weight", (slice(width, 2 * width),), (width, hidden))`.

    Args:
        shapes: of our parameters by name.
    """
    return {
        key: Slot(parameter, where, indexed(shape, where))
        for parameter, shape in shapes.items()
        for key, where in _released_parts(parameter, shape)
    }


def _released_parts(parameter: str, shape: Shape) -> Iterator[tuple[str, Index]]:
    in_dit = parameter.removeprefix("dit.")
    if in_dit == parameter:
        yield _released_projector(parameter), ()
        return
    in_layer = re.fullmatch(r"layers\.(\d+)\.(.+)", in_dit)
    if in_layer is None:
        yield _DIT + _renamed(in_dit, _OUTSIDE_LAYERS), ()
        return
    layer, name = f"{_DIT}layers.{in_layer[1]}.", in_layer[2]
    if name == "ffn.gate_up_proj.weight":
        half = shape[0] // 2
        yield f"{layer}feed_forward.w1.weight", (slice(0, half),)
        yield f"{layer}feed_forward.w3.weight", (slice(half, 2 * half),)
        return
    yield layer + _renamed(name, _IN_LAYER), ()


def _released_projector(parameter: str) -> str:
    name, _, rest = parameter.partition(".")
    prefix = _PROJECTORS[f"{name}."]
    return prefix + (rest if name == "visual_projector" else _renamed(rest, _IN_PROJECTOR))


def _renamed(name: str, table: Mapping[str, str]) -> str:
    for ours, theirs in table.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise KeyError(f"no released name for {name}")


def _filled(
    head: Head,
    source: TensorSource,
    prefixes: tuple[str, ...],
    dtype: torch.dtype,
    device: str | torch.device,
) -> Head:
    """The meta module with memory of its own and the checkpoint's values in it."""
    inside = "dit." if isinstance(head, DiT) else ""
    shapes = {inside + name: tuple(parameter.shape) for name, parameter in head.named_parameters()}
    slots = image_slots(shapes)
    stored = {key: key for key in source.shapes if key.startswith(prefixes)}
    require_fit(slots, source, stored, "the image head")
    head = head.to(dtype).to_empty(device=device)
    parameters = dict(head.named_parameters(prefix=inside.removesuffix(".")))
    with torch.no_grad():
        for key, slot in slots.items():
            parameters[slot.parameter][slot.where].copy_(source.read(key))
    return head.eval()


def _extent(shapes: Mapping[str, Shape], key: str, axis: int) -> int:
    """Length of an axis of a stored tensor."""
    shape = shapes.get(key)
    if shape is None:
        raise CheckpointError(f"no image head in this checkpoint: {key} is missing")
    if len(shape) <= axis or shape[axis] == 0:
        raise CheckpointError(f"{key} is {list(shape)}; need {axis + 1} axes or more, none empty")
    return shape[axis]


def _count_layers(shapes: Mapping[str, Shape], prefix: str) -> int:
    """Different layer numbers among the keys; a gap then shows as a missing layer."""
    numbers = (
        re.match(r"\d+", key.removeprefix(prefix)) for key in shapes if key.startswith(prefix)
    )
    return len({number[0] for number in numbers if number is not None})
