"""What a painter learns from: the core's states of every prompt, latents of every picture.

In:  a manifest of drawing tasks, a model with its vocabulary, a painter whose encoder is fitted.
Out: `Paintings`; and in a folder, so that nothing is computed twice,

    states-<key of the core>/prompts.f16, .keys     float16 [prompts, places, hidden]
    latents-<key of encoder and manifest>.safetensors
                                                    float16 [pictures, channels, rows, columns]

A prompt that occurs in many samples is read once: the core is most of the cost.
Axes: places = [TASK] and the [IMG] tokens; rows / columns in latents.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float16, Int64
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from unimoe.data.manifest import Manifest, media_file
from unimoe.data.sample import PLACEHOLDER, OmniSample
from unimoe.errors import DataError
from unimoe.heads.painter import Painter
from unimoe.heads.vae import PictureVAE
from unimoe.infer.drawing import drawing_ids, drawing_states
from unimoe.media.image import load_image
from unimoe.model.omni import OmniModel
from unimoe.tokens.vocabulary import Vocabulary
from unimoe.train.countdown import Countdown
from unimoe.train.state import write_whole
from unimoe.train.store import StateStore

LONGEST_PROMPT = 64
"""Tokens, [TASK] and [IMG] among them; what is longer is no prompt of a drawing task."""
_PROMPTS_PER_WRITE = 64
_PICTURES_PER_CALL = 64

Value = TypeVar("Value")

_logger = logging.getLogger(__name__)


class Paintings(NamedTuple):
    """Samples as numbers of prompts and pictures."""

    tasks: tuple[str, ...]
    """Of every sample."""
    prompts: Int64[Tensor, " samples"]
    sources: Int64[Tensor, " samples"]
    """-1: drawn from words alone."""
    targets: Int64[Tensor, " samples"]
    states: Float16[Tensor, "prompts places hidden"]
    latents: Float16[Tensor, "pictures channels rows columns"]


def prepare_paintings(
    manifest: Manifest,
    model: OmniModel,
    vocabulary: Vocabulary,
    painter: Painter,
    folder: Path,
    *,
    tasks: Collection[str],
) -> Paintings:
    """Compute what is not in the folder yet.

    Args:
        manifest: of drawing tasks.
        model: whose core reads the prompts.
        vocabulary: of the model.
        painter: its encoder makes the latents.
        folder: of all that is prepared for painters.
        tasks: the samples of these are taken, in the manifest's order; some may have none.

    Raises:
        DataError: a sample is no drawing task, there is none at all, or another process prepares
            there.
    """
    every = (manifest[index] for index in range(len(manifest)))
    samples = [sample for sample in every if sample.task in tasks]
    if not samples:
        raise DataError(f"{manifest.path} has no samples of {', '.join(tasks)}; build it anew")
    folder.mkdir(parents=True, exist_ok=True)
    prompts, prompt_of = _distinct([_prompt(sample) for sample in samples])
    pictures, picture_of = _distinct([path for sample in samples for path in sample.images])
    numbers = iter(picture_of)
    shown = [[next(numbers) for _ in sample.images] for sample in samples]
    return Paintings(
        tasks=tuple(sample.task for sample in samples),
        prompts=torch.tensor(prompt_of),
        sources=torch.tensor([-1 if len(each) == 1 else each[0] for each in shown]),
        targets=torch.tensor([each[-1] for each in shown]),
        states=_states(prompts, model, vocabulary, painter, folder),
        latents=_latents(
            [media_file(manifest.folder, path) for path in pictures],
            painter.vae,
            painter.config.picture_side,
            folder,
        ),
    )


def read_pictures(paths: Sequence[Path], side: int) -> Float[Tensor, "pictures 3 side side"]:
    """Pictures in that size, 0 to 1."""
    shape = (side, side)
    read = [
        np.asarray(Image.fromarray(load_image(path)).resize(shape, Image.Resampling.LANCZOS))
        for path in paths
    ]
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).float() / 255


def _prompt(sample: OmniSample) -> tuple[str, str]:
    """What is asked, and what is said before the picture."""
    user, *_, answer = sample.conversations
    if not 1 <= len(sample.images) <= 2 or not answer.text.endswith("<image>"):
        raise DataError(
            f"sample {sample.id!r} is no drawing task: need an answer that ends in <image>, and at "
            "most one picture before it"
        )
    return PLACEHOLDER.sub("", user.text).strip(), PLACEHOLDER.sub("", answer.text).strip()


def _distinct(given: Sequence[Value]) -> tuple[list[Value], list[int]]:
    """Without repetition, and the place of everything given among them."""
    known: dict[Value, int] = {}
    places = [known.setdefault(value, len(known)) for value in given]
    return list(known), places


def _states(
    prompts: Sequence[tuple[str, str]],
    model: OmniModel,
    vocabulary: Vocabulary,
    painter: Painter,
    folder: Path,
) -> Float16[Tensor, "prompts places hidden"]:
    count = painter.config.num_image_states
    shape = (1 + count, painter.config.core_width)
    ids = torch.full((len(prompts), LONGEST_PROMPT), -1)
    for row, (prompt, thought) in enumerate(prompts):
        own = drawing_ids(prompt, model, vocabulary, count, thought=thought)
        if len(own) > LONGEST_PROMPT:
            raise DataError(f"{prompt!r} has {len(own)} tokens; need {LONGEST_PROMPT} or fewer")
        ids[row, : len(own)] = own

    def read(rows: Tensor) -> Tensor:
        return drawing_states([row[row >= 0] for row in rows], model, count)

    countdown = Countdown("prompts", len(ids), _logger)
    key = _key(model.core)
    with contextlib.closing(StateStore(folder / f"states-{key}", "prompts", shape)) as store:
        places: list[int] = []
        for start in range(0, len(ids), _PROMPTS_PER_WRITE):
            places += store.rows_of(ids[start : start + _PROMPTS_PER_WRITE], read)
            countdown.at(len(places))
        return torch.from_numpy(np.array(store.mapped()[places]))


def _latents(
    paths: Sequence[Path], vae: PictureVAE, side: int, folder: Path
) -> Float16[Tensor, "pictures channels rows columns"]:
    key = hashlib.blake2b(digest_size=8)
    for path in paths:
        key.update(path.name.encode())  # named by the hash of its bytes
    for tensor in (vae.components, vae.block_mean, vae.scale):
        key.update(tensor.numpy().tobytes())
    path = folder / f"latents-{key.hexdigest()}.safetensors"
    if not path.exists():
        found = []
        for start in range(0, len(paths), _PICTURES_PER_CALL):
            pictures = read_pictures(paths[start : start + _PICTURES_PER_CALL], side)
            found.append(vae.encode(pictures).half())
        write_whole({"latents": torch.cat(found)}, path, {})
    return load_file(path)["latents"]


def _key(network: nn.Module) -> str:
    """Of its weights."""
    digest = hashlib.blake2b(digest_size=8)
    for name, parameter in network.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
