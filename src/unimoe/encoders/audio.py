"""Audio encoder: log-mel clips to embeddings of the language core.

In:  features [clips, mel, frames], clips of 30 s for Whisper.  Out: [clips, queries, hidden].
Whisper's encoder, then its decoder as Q-Former over learned queries: 20 embeddings per 3 seconds.
Source: paper 2.2, equation 1; released audio modules (docs/sources.md#audio).
Axes: mel = frequency bins, frames = 100 a second, queries = embeddings of a clip.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from unimoe.config import AudioConfig
from unimoe.encoders.connector import QFormer
from unimoe.encoders.rows import encode_rows
from unimoe.encoders.soft_words import SoftWords

CLIPS_PER_CHUNK = 4
"""Whisper-large-v3 holds about 0.2 GB of activations for these in float32."""


class AudioEncoder(nn.Module):
    """Whisper encoder and Q-Former; and the words its embeddings are put in, if they are."""

    def __init__(self, config: AudioConfig, hidden_size: int, vocab_size: int) -> None:
        # Imported here: a model that only reads text must not wait three seconds for it.
        from transformers.models.whisper.modeling_whisper import WhisperDecoder, WhisperEncoder

        super().__init__()
        self.config = config
        settings = _whisper_settings(config)
        self.tower = WhisperEncoder(settings)
        self.qformer = QFormer(config, WhisperDecoder(settings), hidden_size)
        self.words = SoftWords(vocab_size) if config.speaks_words else None

    def forward(
        self, audio_features: Float[Tensor, "clips mel frames"]
    ) -> Float[Tensor, "clips queries hidden"]:
        """Embeddings of every clip; equal clips are encoded once."""
        features = audio_features.to(self.qformer.query_tokens.dtype)
        return encode_rows(
            lambda chunk: self.connect(self.states(chunk)), features, rows_per_chunk=CLIPS_PER_CHUNK
        )

    def states(
        self, features: Float[Tensor, "clips mel frames"]
    ) -> Float[Tensor, "clips steps width"]:
        """What the tower hears, 50 steps a second; with a frozen tower computed only once."""
        states: Tensor = self.tower(features).last_hidden_state
        return states

    def connect(
        self, states: Float[Tensor, "clips steps width"]
    ) -> Float[Tensor, "clips queries hidden"]:
        """Embeddings of every clip from its states, not yet in words."""
        embeddings: Tensor = self.qformer(states.to(self.qformer.query_tokens.dtype))
        return embeddings


def _whisper_settings(config: AudioConfig) -> Any:
    """Whisper's own configuration, with every dropout at zero."""
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
        max_target_positions=config.max_target_positions,
        vocab_size=config.vocab_size,
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
