"""The mini model: pretrained parts put together, and what was trained on top of them.

In:  the parts smollm2, dinov2-small and whisper-tiny-en.  Out: a checkpoint directory in bf16 with
tokenizer and template: dense, its connectors untrained.
Fourteen control tokens of SmolLM2 that chats never use get the names of ours; SmolLM2's head is
tied, so their rows stay what they were.  Whisper's decoder becomes the Q-Former, and, as it is, the
writer.
Source: design of the mini model (docs/sources.md#mini).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from unimoe.checkpoint import mini_writer
from unimoe.checkpoint.directory import open_checkpoint
from unimoe.checkpoint.gguf import GGUFFile
from unimoe.checkpoint.packed import read_packed, write_packed
from unimoe.checkpoint.weights import copy_companions, load_model, new_directory, save_model
from unimoe.config import (
    AudioConfig,
    CoreConfig,
    MoEConfig,
    OmniConfig,
    SpecialTokens,
    VideoConfig,
    VisionConfig,
    WriterConfig,
    from_dict,
    to_dict,
)
from unimoe.errors import CheckpointError
from unimoe.model.allocate import allocate, meta_model
from unimoe.model.omni import OmniModel
from unimoe.model.specialists import with_deltas
from unimoe.parts import cache_directory, fetch, part
from unimoe.parts.ctranslate2 import whisper_weights
from unimoe.parts.onnx_weights import dinov2_weights

CONTROL_TOKENS = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<|audio_pad|>",
    "<|speech_start|>",
    "<|speech_end|>",
    "<|speech_prompt|>",
    "<|speech_split|>",
    "[TASK]",
    "[IMG]",
)
"""In place of the tokens from id 3 on (`<repo_name>` and what follows it)."""
_FIRST_CONTROL_ID = 3
_ATTENTION_RANK = 16
_BEGIN_AT_ZERO = ("query_tokens", "colours.weight", "_detail.weight", ".qkv_out", ".o_out")
HEADS = ("talker", "codec", "painter")
"""Names of the files of heads (`heads/head_files.py`), where there are any."""
PARTS_OF_MINI = ("smollm2", "dinov2-small", "whisper-tiny-en")
_WRITTEN_BY = (Path(__file__), Path(mini_writer.__file__))
"""Whose code says what becomes of the parts: a base that other code wrote is not taken for ours."""

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""
"""ChatML without a system turn nobody asked for: on a laptop every token counts."""


def mini_config(moe: MoEConfig | None = None) -> OmniConfig:
    """SmolLM2-135M, DINOv2-S on tiles of 168 pixels, Whisper tiny.en on clips of 3 seconds."""
    return OmniConfig(
        core=CoreConfig(
            vocab_size=49_152,
            hidden_size=576,
            num_layers=30,
            num_heads=9,
            num_kv_heads=3,
            head_dim=64,
            ffn_width=1536,
            rms_norm_eps=1e-5,
            rope_theta=1e5,
            rope_sections=(8, 12, 12),
            has_qkv_bias=False,
            ties_embeddings=True,
            max_positions=8192,
            moe=moe,
            attention_delta_rank=_ATTENTION_RANK,
        ),
        vision=VisionConfig(
            tower="dinov2",
            hidden_size=384,
            num_layers=12,
            num_heads=6,
            ffn_width=1536,
            image_side=168,
            patch_side=14,
            hidden_act="gelu",
            pool_side=4,
            tokens_per_window=3,
            aligner_layers=2,
            reads_class_state=True,
            colour_levels=3,
            detail_side=8,
            speaks_words=True,
            max_tile_grid=(1, 1),
            pixel_mean=(0.485, 0.456, 0.406),
            pixel_std=(0.229, 0.224, 0.225),
        ),
        audio=AudioConfig(
            hidden_size=384,
            encoder_layers=4,
            decoder_layers=4,
            num_heads=6,
            ffn_width=1536,
            num_mel_bins=80,
            max_source_positions=200,
            max_target_positions=20,
            vocab_size=1,
            queries_per_clip=20,
            max_clips=40,
            context_seconds=0.5,
            timed_queries=True,
            speaks_words=True,
            writer=WriterConfig(
                vocab_size=51_864,
                start=50_257,
                no_timestamps=50_362,
                end=50_256,
                alignment_heads=(
                    (1, 0),
                    (2, 0),
                    (2, 5),
                    (3, 0),
                    (3, 1),
                    (3, 2),
                    (3, 3),
                    (3, 4),
                ),
                max_pieces=28,
                max_tokens_per_piece=5,
                num_silent_states=82,
            ),
        ),
        video=VideoConfig(min_frames=4, max_frames=8, max_frames_with_audio=8),
        position_rule="ordered",
        special_tokens=SpecialTokens(
            pad=0,
            end_of_turn=2,
            vision_start=3,
            vision_end=4,
            image_pad=5,
            video_pad=6,
            audio_start=7,
            audio_end=8,
            audio_pad=9,
            speech_start=10,
            speech_end=11,
            speech_prompt=12,
            speech_split=13,
        ),
    )


def base_directory(*, offline: bool = False) -> Path:
    """The dense model of the parts, written on first use into the cache.

    Raises:
        PartsError: a part cannot be had.
    """
    parts = [part(name) for name in PARTS_OF_MINI]
    code = [path.read_bytes() for path in _WRITTEN_BY]
    made_of = ([each.key for each in parts], to_dict(mini_config()), code)
    key = hashlib.sha256(repr(made_of).encode()).hexdigest()[:12]
    directory = cache_directory() / "models" / f"mini-base-{key}"
    if not directory.exists():
        with _whole_or_not_there(directory) as being_written:
            write_base(being_written, offline=offline)
    return directory


@contextlib.contextmanager
def _whole_or_not_there(directory: Path) -> Iterator[Path]:
    """A folder to write into, which takes its name when it is done.

    Of two processes that write the same one, the first to be done wins.
    """
    being_written = directory.with_name(f"{directory.name}.{os.getpid()}")
    shutil.rmtree(being_written, ignore_errors=True)
    try:
        yield being_written
        with contextlib.suppress(OSError):
            being_written.rename(directory)
        assert directory.exists(), directory
    finally:
        shutil.rmtree(being_written, ignore_errors=True)


def mini_directory() -> Path:
    """The checkpoint `mini`: the parts and what was trained on them, written on first use.

    Raises:
        PartsError: a part cannot be had.
        CheckpointError: this installation brings no trained tensors, or such of another model.
    """
    trained = Path(str(files("unimoe") / "mini"))
    weights, config = trained / "trained.safetensors", trained / "config.json"
    if not weights.exists():
        raise CheckpointError(
            f"{weights} is not there: this installation brings no trained mini. Train one with "
            "`unimoe train mini`, or give the directory of a checkpoint"
        )
    base = base_directory()
    heads = [path for path in sorted(trained.iterdir()) if path.stem in HEADS]
    brought = (weights, config, *heads)
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in brought)).hexdigest()[:12]
    directory = base.with_name(f"{base.name.replace('-base', '')}-{digest}")
    if not directory.exists():
        model = mini_model(weights)
        with _whole_or_not_there(directory) as being_written:
            save_model(model, being_written)
            copy_companions(open_checkpoint(base), being_written)
            for path in heads:
                shutil.copyfile(path, being_written / path.name)
    return directory


def mini_model(weights: Path) -> OmniModel:
    """The parts and what an export of a training puts on them, each in the type it is stored in.

    Args:
        weights: `trained.safetensors` as `export_trained` wrote it; its `config.json`, or that of
            mini where it has none, says what experts there are.

    Raises:
        PartsError: a part cannot be had.
        CheckpointError: the export is damaged, or of another model.
    """
    own, of_mini = weights.with_name("config.json"), Path(str(files("unimoe") / "mini/config.json"))
    config = (own if own.exists() else of_mini).read_text("utf-8")
    model = with_deltas(load_model(base_directory()), from_dict(MoEConfig, json.loads(config)))
    _take(model, read_packed(weights), weights)
    return model


def export_trained(model: OmniModel, directory: Path) -> None:
    """Write what `mini_directory` puts on the parts: everything that no part brought."""
    moe = model.config.core.moe
    assert moe is not None
    directory.mkdir(parents=True, exist_ok=True)
    trained = {name: parameter for name, parameter in model.named_parameters() if _is_trained(name)}
    write_packed(trained, directory / "trained.safetensors")
    (directory / "config.json").write_text(json.dumps(to_dict(moe), indent=2) + "\n", "utf-8")


def _is_trained(name: str) -> bool:
    if name.startswith(("audio.qformer.", "vision.aligner.")):
        return not name.endswith("embed_tokens.weight")
    learned = (
        ".words.",
        ".ffn.router.",
        ".attention.deltas.",
        ".deltas.routed.",
        ".deltas.shared.",
    )
    return any(part in name for part in learned)


def _take(model: OmniModel, tensors: Mapping[str, Tensor], source: Path) -> None:
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        if name not in parameters or parameters[name].shape != tensor.shape:
            raise CheckpointError(
                f"{source}: {name} {list(tensor.shape)} has no place in the model of its "
                "config.json; both must be of the same training"
            )
        parameters[name].data = tensor.to(parameters[name].dtype)
    missing = [name for name in parameters if _is_trained(name) and name not in tensors]
    if missing:
        raise CheckpointError(f"{source}: holds no {missing[0]}; it is cut short")


def write_base(directory: Path, *, offline: bool = False) -> None:
    """Write the dense model of the parts; connectors are small random numbers of a fixed seed.

    Raises:
        PartsError: a part cannot be had.
        CheckpointError: the directory holds a checkpoint already.
    """
    language, vision, audio = (fetch(part(name), offline=offline) for name in PARTS_OF_MINI)
    config = mini_config()
    model = meta_model(config)
    given = _language_tensors(next(language.rglob("*.gguf")))
    given |= _vision_tensors(dinov2_weights(next(vision.rglob("*.onnx"))), config)
    weights = whisper_weights(next(audio.rglob("model.bin")))
    given |= _audio_tensors(weights, config)
    _write_tokenizer(next(language.rglob("*.gguf")), new_directory(directory))
    assert config.audio is not None
    whisper, core = (
        Tokenizer.from_file(str(next(folder.rglob("tokenizer.json"))))
        for folder in (audio, directory)
    )
    written = mini_writer.writer_tensors(weights, whisper, core, config.audio)
    given |= {f"audio.writer.{name}": values for name, values in written.items()}
    generator = torch.Generator().manual_seed(0)

    def filled(name: str, shape: torch.Size) -> Tensor:
        tensor = given.pop(name, None)
        if tensor is None:
            tensor = _new_connector(name, shape, generator)
        assert tensor.shape == shape, (name, tensor.shape, shape)
        return tensor.to(torch.bfloat16)

    allocate(model, filled)
    assert not given, f"parts with no place in the model: {sorted(given)}"
    save_model(model, directory)


def _language_tensors(gguf: Path) -> dict[str, Tensor]:
    core = load_model(gguf).core
    return {f"core.{name}": value.detach() for name, value in core.named_parameters()}


def _vision_tensors(weights: Mapping[str, NDArray[Any]], config: OmniConfig) -> dict[str, Tensor]:
    assert config.vision is not None
    tensors = {name: torch.from_numpy(np.array(values)) for name, values in weights.items()}
    name = "embeddings.position_embeddings"
    side = config.vision.image_side // config.vision.patch_side
    tensors[name] = _resampled(tensors[name], side)
    return {f"vision.tower.{name}": values for name, values in tensors.items()}


def _resampled(positions: Tensor, side: int) -> Tensor:
    """The table for a grid of side x side, as transformers resamples it at every call."""
    own, grid = positions[:, :1], positions[:, 1:]
    table = round(grid.shape[1] ** 0.5)
    square = grid.reshape(len(grid), table, table, -1).permute(0, 3, 1, 2)
    smaller = functional.interpolate(square, (side, side), mode="bicubic", align_corners=False)
    return torch.cat([own, smaller.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def _audio_tensors(weights: Mapping[str, NDArray[Any]], config: OmniConfig) -> dict[str, Tensor]:
    """Encoder and Q-Former; positions as many as clips have, and hardly any unused vocabulary."""
    assert config.audio is not None
    places = {"model.encoder.": "audio.tower.", "model.decoder.": "audio.qformer.decoder."}
    rows = {
        "audio.tower.embed_positions.weight": config.audio.max_source_positions,
        "audio.qformer.decoder.embed_positions.weight": config.audio.max_target_positions,
        "audio.qformer.decoder.embed_tokens.weight": config.audio.vocab_size,
    }
    tensors = {}
    for name, values in weights.items():
        scope = next((scope for scope in places if name.startswith(scope)), None)
        if scope is not None:
            ours = places[scope] + name.removeprefix(scope)
            tensors[ours] = torch.from_numpy(np.array(values[: rows.get(ours)]))
    return tensors


def _new_connector(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if name.endswith(".words.spoken") or ("norm" in name and name.endswith("weight")):
        return torch.ones(shape)
    if len(shape) == 1 or name.endswith(_BEGIN_AT_ZERO):
        return torch.zeros(shape)
    if name == "audio.qformer.moment.weight":  # begin with what is heard, not with a mixture of it
        moment: Tensor = 0.05 * torch.eye(shape[0]).repeat(1, shape[1] // shape[0])
        return moment
    fan_in = math.prod(shape[1:]) if len(shape) == 4 else shape[-1]
    small: Tensor = torch.randn(shape, generator=generator) * fan_in**-0.5
    return small


def _write_tokenizer(gguf: Path, directory: Path) -> None:
    GGUFFile(gguf).write_tokenizer(directory)
    path = directory / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    for token_id, name in enumerate(CONTROL_TOKENS, start=_FIRST_CONTROL_ID):
        added = next(token for token in tokenizer["added_tokens"] if token["id"] == token_id)
        del vocabulary[added["content"]]
        vocabulary[name] = token_id
        added["content"] = name
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), "utf-8")
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, "utf-8")
