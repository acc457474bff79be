"""Speak: codes of a sentence, one by one, at the cost of one row each.

In:  a `SpeechExample`, and an empty cache.  Out: `CodeStep`s, until the end.
The talker runs as it was trained: the prompt sees itself, codes see what is before them; no noise.
"""

import logging
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unimoe.errors import RequestError
from unimoe.heads.moe_tts import MoETTS
from unimoe.heads.speech_rows import Control, SpeechExample, collate_speech
from unimoe.nn.attention import KeyValueStore

log = logging.getLogger(__name__)


class CodeStep(NamedTuple):
    """A code, or CODES_END."""

    code: int
    logits: Float[Tensor, " vocab"]
    """What it was chosen by, over codes and control codes."""


@torch.no_grad()
def write_codes(
    talker: MoETTS, example: SpeechExample, cache: KeyValueStore, *, max_codes: int = 1000
) -> Iterator[CodeStep]:
    """The likeliest code after each other; the last step is CODES_END, unless `max_codes` is hit.

    Of the control codes only CODES_END can be written: the others mean nothing to a codec. Codes
    the example has are taken as written before.

    Raises:
        RequestError: the cache is not empty, or as `collate_speech`.
    """
    if cache.length:
        raise RequestError(f"the cache holds {cache.length} rows; a sentence needs an empty one")
    end = Control.CODES_END.code(talker.config)
    silent = [control.code(talker.config) for control in Control if control != Control.CODES_END]
    device = talker.head.weight.device
    batch = collate_speech([example], talker.config)
    inputs = talker.embed(batch.ids.to(device), batch.is_text.to(device))
    visible: Tensor | None = batch.visible.to(device)
    is_text = torch.zeros(1, 1, dtype=torch.bool, device=device)
    for _ in range(max_codes):
        states = talker(inputs, visible, cache=cache)
        logits = talker.head(states[0, -1])
        scores = logits.index_fill(0, torch.tensor(silent, device=device), -torch.inf)
        code = int(scores.argmax())
        yield CodeStep(code, logits)
        if code == end:
            return
        inputs, visible = talker.embed(torch.tensor([[code]], device=device), is_text), None
    log.warning("speech was cut off after %d codes, before its end was written", max_codes)
