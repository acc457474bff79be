"""Audio encoder: log-mel clips to embeddings of the language core.

In:  features [clips, mel, frames], clips of 30 s for Whisper.  Out: [clips, queries, hidden].
Whisper's encoder, then its decoder as Q-Former over learned queries: 20 embeddings per 3 seconds.
If there is a writer, what it writes stands in the places of some queries.
Source: paper 2.2, equation 1; released audio modules (docs/sources.md#audio).
Axes: mel = frequency bins, frames = 100 a second, queries = embeddings of a clip.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unimoe.config import AudioConfig
from unimoe.encoders.connector import QFormer
from unimoe.encoders.rows import encode_rows
from unimoe.encoders.soft_words import SoftWords
from unimoe.encoders.writer import CLIPS_WRITTEN_TOGETHER, NUM_PROMPT_TOKENS, Writer
from unimoe.encoders.written_words import sounding, written_tokens

CLIPS_PER_CHUNK = 4
"""Whisper-large-v3 holds about 0.2 GB of activations for these in float32."""


class AudioEncoder(nn.Module):
    """Whisper encoder and Q-Former; the words its embeddings are put in, and the writer, if any."""

    def __init__(self, config: AudioConfig, hidden_size: int, vocab_size: int) -> None:
        # Imported here: a model that only reads text must not wait three seconds for it.
        from transformers.models.whisper.modeling_whisper import WhisperDecoder, WhisperEncoder

        super().__init__()
        self.config = config
        settings = _whisper_settings(config)
        self.tower = WhisperEncoder(settings)
        self.qformer = QFormer(config, WhisperDecoder(settings), hidden_size)
        self.words = SoftWords(vocab_size) if config.speaks_words else None
        self.writer: Writer | None = None
        if config.writer is not None:
            settings = _whisper_settings(
                config, config.writer.max_pieces + NUM_PROMPT_TOKENS, config.writer.vocab_size
            )
            self.writer = Writer(config, config.writer, WhisperDecoder(settings))

    def forward(
        self,
        audio_features: Float[Tensor, "clips mel frames"],
        table: Float[Tensor, "vocab hidden"] | None = None,
    ) -> Float[Tensor, "clips queries hidden"]:
        """Embeddings of every clip; equal clips are encoded once.

        Args:
            audio_features: log-mel clips.
            table: the core's embedding table: they are put in words, if the encoder speaks or
                writes. None: as they come from the Q-Former.
        """
        return encode_rows(
            lambda chunk: self.read(self.states(chunk), table),
            audio_features.to(self.qformer.query_tokens.dtype),
            rows_per_chunk=CLIPS_PER_CHUNK if self.writer is None else CLIPS_WRITTEN_TOGETHER,
        )

    def states(
        self, features: Float[Tensor, "clips mel frames"]
    ) -> Float[Tensor, "clips steps width"]:
        """What the tower hears, 50 steps a second; with a frozen tower computed only once.

        Of an encoder that writes, the last `queries_per_clip` steps hold what is written.
        """
        states: Tensor = self.tower(features).last_hidden_state
        if self.writer is None:
            return states
        return torch.cat([states, self.writer(states, sounding(features))], dim=1)

    def connect(
        self, states: Float[Tensor, "clips steps width"]
    ) -> Float[Tensor, "clips queries hidden"]:
        """Embeddings of every clip from its states, not yet in words, nothing written."""
        heard = states[:, : self.config.max_source_positions]
        embeddings: Tensor = self.qformer(heard.to(self.qformer.query_tokens.dtype))
        return embeddings

    def read(
        self,
        states: Float[Tensor, "clips steps width"],
        table: Float[Tensor, "vocab hidden"] | None,
    ) -> Float[Tensor, "clips queries hidden"]:
        """Embeddings of every clip as the core reads them: in words, and written where it is.

        Without the core's table they are those of `connect`.
        """
        embeddings = self.connect(states)
        if table is None:
            return embeddings
        if self.words is not None:
            embeddings = self.words(embeddings, table)
        if self.writer is not None:
            written = written_tokens(states[:, self.config.max_source_positions :])
            rows = functional.embedding(written.clamp(min=0), table).to(embeddings.dtype)
            embeddings = torch.where(written[..., None] >= 0, rows, embeddings)
        return embeddings


def _whisper_settings(
    config: AudioConfig, num_positions: int | None = None, vocab_size: int | None = None
) -> Any:
    """Whisper's own configuration, with every dropout at zero; of the Q-Former's decoder."""
    from transformers.models.whisper import WhisperConfig

    return WhisperConfig(
        d_model=config.hidden_size,
        encoder_layers=config.encoder_layers,
        decoder_layers=config.decoder_layers,
        encoder_attention_heads=config.num_heads,
        decoder_attention_heads=config.num_heads,
        encoder_ffn_dim=config.ffn_width,
        decoder_ffn_dim=config.ffn_width,
        num_mel_bins=config.num_mel_bins,
        max_source_positions=config.max_source_positions,
        max_target_positions=num_positions or config.max_target_positions,
        vocab_size=vocab_size or config.vocab_size,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        decoder_start_token_id=0,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        attn_implementation="sdpa",
    )
