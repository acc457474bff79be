"""Mini's writer: Whisper's own decoder, and what its pieces are to the core.

In:  Whisper's weights, its tokenizer and the core's.  Out: tensors of `encoders/writer.py` by name.
Both tokenizers are byte-level pairs, so a piece of Whisper is the core's token of the same string,
or several that make it up. Symbols that no one says aloud are not written: Whisper then writes
the words for them.
Source: symbols of openai-whisper's `non_speech_tokens` (docs/sources.md#audio).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from unimoe.config import AudioConfig, WriterConfig
from unimoe.encoders.writer import (
    BEGINS_WORD,
    CONTINUES_WORD,
    NO_SPEECH,
    NOT_WRITTEN,
    NUM_PROMPT_TOKENS,
    WINDOW_STEPS,
)
from unimoe.encoders.written_words import digits

_REMARK_SYMBOLS = frozenset("[]()*♩♪♫♬♭♮♯")
_SYMBOLS = frozenset('"#+/:;<=>@\\^_`{|}~「」『』')
_DASH_AND_QUOTE = (" -", " '")
"""Within a word both are letters like others."""
_LOG_MEL_OF_SILENCE = -0.6
"""What zeros become beside speech: Whisper's features reach 2 below their maximum."""


def writer_tensors(
    weights: Mapping[str, NDArray[Any]], whisper: Tokenizer, core: Tokenizer, config: AudioConfig
) -> dict[str, Tensor]:
    """All tensors of the writer, without a prefix."""
    settings = config.writer
    assert settings is not None
    prefix = "model.decoder."
    tensors = {
        name.removeprefix("model."): torch.from_numpy(np.array(values))
        for name, values in weights.items()
        if name.startswith(prefix)
    }
    positions = tensors["decoder.embed_positions.weight"]
    tensors["decoder.embed_positions.weight"] = positions[: settings.max_pieces + NUM_PROMPT_TOKENS]
    kinds = torch.full((settings.vocab_size,), NOT_WRITTEN)
    tokens = torch.full((settings.vocab_size, settings.max_tokens_per_piece), -1)
    for piece in range(settings.vocab_size):
        text = "" if piece == settings.end else whisper.decode([piece])
        ids = _core_tokens(text, core)
        kinds[piece] = _kind(text, ids, settings)
        if kinds[piece] in (CONTINUES_WORD, BEGINS_WORD):
            tokens[piece, : len(ids)] = torch.tensor(ids)
    tensors["kinds"] = kinds.float()
    tensors["tokens"] = digits(tokens)
    tensors["silence"] = _silence(weights, config, settings.num_silent_states)
    return tensors


def _core_tokens(text: str, core: Tokenizer) -> list[int]:
    ids: list[int] = core.encode(text, add_special_tokens=False).ids
    return ids if core.decode(ids) == text else []


def _kind(text: str, ids: list[int], settings: WriterConfig) -> int:
    if _REMARK_SYMBOLS & set(text):
        return NO_SPEECH
    is_unsaid = not text.strip() or text in _DASH_AND_QUOTE or bool(_SYMBOLS & set(text))
    # The replacement character stands for half of a letter.
    if is_unsaid or "\ufffd" in text or not 1 <= len(ids) <= settings.max_tokens_per_piece:
        return NOT_WRITTEN
    return BEGINS_WORD if text.startswith(" ") else CONTINUES_WORD


@torch.no_grad()
def _silence(weights: Mapping[str, NDArray[Any]], config: AudioConfig, num_states: int) -> Tensor:
    """States of silence, evenly from where a clip ends to the end of Whisper's 30 seconds."""
    from transformers.models.whisper import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    prefix = "model.encoder."
    encoder: Any = WhisperEncoder(
        WhisperConfig(
            d_model=config.hidden_size,
            encoder_layers=config.encoder_layers,
            encoder_attention_heads=config.num_heads,
            encoder_ffn_dim=config.ffn_width,
            num_mel_bins=config.num_mel_bins,
        )
    ).eval()
    encoder.load_state_dict(
        {
            name.removeprefix(prefix): torch.from_numpy(np.array(values))
            for name, values in weights.items()
            if name.startswith(prefix)
        }
    )
    window = torch.full((1, config.num_mel_bins, 2 * WINDOW_STEPS), _LOG_MEL_OF_SILENCE)
    states: Tensor = encoder(window).last_hidden_state[0, config.max_source_positions :]
    places = torch.arange(num_states) * len(states) // num_states
    return states[places]
