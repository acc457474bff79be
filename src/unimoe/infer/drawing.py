"""Drawing from words: the frozen core reads a prompt, its states of [TASK] and [IMG] are painted.

In:  a model with its vocabulary and painter, a prompt, perhaps a picture.
Out: progress, and a picture, uint8.
A prompt ends in an opened answer, in which one [TASK] and some [IMG] tokens stand; a thought, said
before them, is what the core is to draw after it has put it into words.
The core reads words alone: its states are then the same for whatever picture an instruction is
given with, and are computed once. The picture reaches the painter directly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from unimoe.config import DRAWING_GUIDANCE, DRAWING_STEPS, PainterConfig
from unimoe.errors import RequestError
from unimoe.heads.flow import ImageProgress
from unimoe.heads.head_files import read_head
from unimoe.heads.painter import PAINTER, Painter, Picture
from unimoe.media.image import ImageSource, load_image
from unimoe.model.omni import OmniModel
from unimoe.tokens.message import message
from unimoe.tokens.sequence import encode_chat
from unimoe.tokens.vocabulary import Vocabulary

TASK_TOKEN, IMAGE_TOKEN = "[TASK]", "[IMG]"


def painter_in(directory: Path) -> Painter:
    """The painter in a folder, such as training writes it.

    Raises:
        RequestError: there is none.
        CheckpointError: it is damaged.
    """
    painter = read_head(directory, PAINTER, PainterConfig, Painter)
    if painter is None:
        raise RequestError(
            f"{directory} brings no {PAINTER}, so it cannot draw; `unimoe train mini --stage "
            "image` makes one"
        )
    return painter


def drawing_ids(
    prompt: str,
    model: OmniModel,
    vocabulary: Vocabulary,
    num_image_states: int,
    *,
    thought: str = "",
) -> Int64[Tensor, " seq"]:
    """The prompt as tokens; the last 1 + `num_image_states` are [TASK] and [IMG].

    Raises:
        RequestError: the prompt is empty, or the vocabulary has no such tokens.
    """
    if not prompt.strip():
        raise RequestError("the prompt is empty; say what is to be drawn")
    task, image = (vocabulary.token_id(text) for text in (TASK_TOKEN, IMAGE_TOKEN))
    if task is None or image is None:
        raise RequestError(
            f"the vocabulary has no {TASK_TOKEN} and {IMAGE_TOKEN} tokens; take a checkpoint that "
            "draws, such as mini"
        )
    chat = encode_chat([message("user", prompt)], vocabulary, model.config).input_ids
    rest = [*vocabulary.encode(thought), task, *[image] * num_image_states]
    return torch.cat([chat, torch.tensor(rest)])


@torch.inference_mode()
def drawing_states(
    prompts: Sequence[Int64[Tensor, " _"]], model: OmniModel, num_image_states: int
) -> Float[Tensor, "prompts places hidden"]:
    """States of [TASK] and [IMG] after the final norm, float32; one prompt or more."""
    places, longest = 1 + num_image_states, max(map(len, prompts))
    ids = torch.full((len(prompts), longest), model.config.special_tokens.pad)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = prompt
        mask[row, : len(prompt)] = 1
    output = model(ids.to(model.device), attention_mask=mask.to(model.device), logits_rows=0)
    hidden = output.hidden_states.float()
    ends = (
        row[len(prompt) - places : len(prompt)] for row, prompt in zip(hidden, prompts, strict=True)
    )
    return torch.stack(list(ends))


def source_picture(image: ImageSource, side: int) -> Picture:
    """A picture in the painter's size: the middle square of it.

    Raises:
        MediaError: it cannot be read.
    """
    pixels = Image.fromarray(load_image(image))
    length = min(pixels.size)
    left, top = (pixels.width - length) // 2, (pixels.height - length) // 2
    square = pixels.crop((left, top, left + length, top + length))
    return np.asarray(square.resize((side, side), Image.Resampling.LANCZOS))


def draw(
    model: OmniModel,
    vocabulary: Vocabulary,
    painter: Painter,
    prompt: str,
    image: ImageSource | None = None,
    *,
    thought: str = "",
    steps: int = DRAWING_STEPS,
    guidance_scale: float = DRAWING_GUIDANCE,
    image_guidance_scale: float = 1.0,
    seed: int = 0,
) -> Iterator[ImageProgress | Picture]:
    """Draw what a prompt asks for: progress, and last the picture, uint8 [height, width, 3].

    Args:
        model: its core reads the prompt.
        vocabulary: of the model.
        painter: trained on states of this model.
        prompt: such as "Draw a red circle." or "Remove the rain."
        image: to be edited or repaired; None: drawn from words alone.
        thought: what the core says before it draws.
        steps: from noise to picture.
        guidance_scale: above 1, away from what would be drawn without words.
        image_guidance_scale: likewise of the picture given.
        seed: the same one gives the same picture.

    Raises:
        RequestError: the prompt is empty, or the model cannot draw.
        MediaError: the picture cannot be read.
    """
    count = painter.config.num_image_states
    ids = drawing_ids(prompt, model, vocabulary, count, thought=thought)
    states = drawing_states([ids], model, count)[0]
    source = None if image is None else source_picture(image, painter.config.picture_side)
    yield from painter.draw(
        states[1:],
        states[:1],
        source,
        steps=steps,
        guidance_scale=guidance_scale,
        image_guidance_scale=image_guidance_scale,
        seed=seed,
    )
