"""The talker as the release runs it, to reproduce its numbers; `write_codes` is the way to speak.

In:  examples, or one to speak.  Out: a `SpeechBatch`; codes one by one.
It pads every block of a batch by itself, and it writes a code by running the whole row again
without a mask, so that earlier rows see later ones, unlike in training.
Source: released speech generator (docs/sources.md#talker).
Axes: seq = rows of the padded blocks, vocab = codes + control codes.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unimoe.config import TalkerConfig
from unimoe.errors import RequestError
from unimoe.heads.moe_tts import MoETTS
from unimoe.heads.speech_rows import (
    Control,
    Rows,
    SpeechBatch,
    SpeechExample,
    code_rows,
    collate_speech,
    control_row,
    joined,
    stacked,
    targets_of,
    text_rows,
    voice_and_context,
)
from unimoe.heads.write_codes import CodeStep

_TEXT_PAD = 0


def collate_speech_released(examples: Sequence[SpeechExample], config: TalkerConfig) -> SpeechBatch:
    """A batch as the release trains on: three blocks, each as long as its longest.

    Positions count padding, and padding takes experts and their places.  A text is padded inside
    its block: of a shorter one a padding token is seen where its TEXT_END should be.

    Raises:
        RequestError: an id outside of its vocabulary, or contexts in some examples only.
    """
    if len({example.context_codes is None for example in examples}) > 1:
        raise RequestError("context_codes is None in some examples; give () for an empty context")
    starts = [joined(voice_and_context(example, config)) for example in examples]
    texts = [joined(text_rows(example, config)) for example in examples]
    codes = [code_rows(example.codes, "codes", config) for example in examples]
    written = [joined([control_row(Control.CODES_START, config), each]) for each in codes]
    blocks = [stacked(starts, config), _text_block(texts), stacked(written, config)]
    lengths = [[len(rows.ids) for rows in block] for block in (starts, texts, written)]
    is_real = torch.cat(
        [
            torch.arange(ids.shape[1]) < torch.tensor(block)[:, None]
            for (ids, _), block in zip(blocks, lengths, strict=True)
        ],
        dim=1,
    )
    code_start = is_real.shape[1] - blocks[2][0].shape[1]
    return SpeechBatch(
        ids=torch.cat([ids for ids, _ in blocks], dim=1),
        is_text=torch.cat([is_text for _, is_text in blocks], dim=1),
        visible=_visible(is_real, code_start),
        is_real=None,
        targets=targets_of(codes, [code_start] * len(codes), config),
    )


@torch.no_grad()
def write_codes_released(
    talker: MoETTS, example: SpeechExample, *, max_codes: int = 1000
) -> Iterator[CodeStep]:
    """The likeliest codes, control codes among them; the whole row is run for each.

    The release takes control codes modulo the number of codes before it decodes them.
    """
    device = talker.head.weight.device
    batch = collate_speech([example], talker.config)
    embeddings = talker.embed(batch.ids.to(device), batch.is_text.to(device))
    is_text = torch.zeros(1, 1, dtype=torch.bool, device=device)
    for _ in range(max_codes):
        length = embeddings.shape[1]
        sees_all = torch.ones(1, length, length, dtype=torch.bool, device=device)
        logits = talker.head(talker(embeddings, sees_all)[0, -1])
        code = int(logits.argmax())
        yield CodeStep(code, logits)
        if code == Control.CODES_END.code(talker.config):
            return
        written = torch.tensor([[code]], device=device)
        embeddings = torch.cat([embeddings, talker.embed(written, is_text)], dim=1)


def _text_block(texts: Sequence[Rows]) -> tuple[Tensor, Tensor]:
    """Start, the texts padded to one length, end."""
    inner = pad_sequence([rows.ids[1:-1] for rows in texts], True, _TEXT_PAD)
    starts, ends = (torch.stack([rows.ids[index] for rows in texts])[:, None] for index in (0, -1))
    is_control = torch.zeros_like(starts, dtype=torch.bool)
    return (
        torch.cat([starts, inner, ends], dim=1),
        torch.cat([is_control, torch.ones_like(inner, dtype=torch.bool), is_control], dim=1),
    )


def _visible(is_real: Tensor, code_start: int) -> Tensor:
    """Real rows see the real prompt and the codes before them; padding sees nothing."""
    position = torch.arange(is_real.shape[1])
    in_prompt = position < code_start
    seen = in_prompt[None, :] | (position[None, :] <= position[:, None])
    return seen & is_real[:, None, :] & is_real[:, :, None]
