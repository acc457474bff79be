"""MoE-TTS, the talker: text to speak and a described voice become codes of the codec.

In:  rows of text ids and codes (`speech_rows`), who sees whom, and a store for decoding.
Out: hidden states [batch, new, hidden] after the final norm; logits over codes and control codes.
A Qwen2 decoder whose feed-forward blocks are top-2 mixtures of experts.
Source: paper 2.4, equation 3; released speech generator (docs/sources.md#talker).
Axes: new = rows of this call, total = stored ones + new, vocab = codes + control codes.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from unimoe.config import TalkerConfig
from unimoe.heads.speech_rows import IGNORED, NUM_CONTROLS, SpeechBatch
from unimoe.heads.top2 import Top2MoE, expert_capacity, gumbel_noise
from unimoe.nn.attention import Attention, KeyValueStore
from unimoe.nn.layers import RMSNorm
from unimoe.nn.rope import Rotation, rotary_angles, rotation


class _LayerInput(NamedTuple):
    """What every layer of one forward shares."""

    turn: Rotation
    mask: Float[Tensor, "batch 1 new total"] | None
    store: KeyValueStore | None
    is_real: Bool[Tensor, "batch new"] | None
    capacity: int | None


class TalkerLayer(nn.Module):
    """Attention and experts, each on the normed states and added to them."""

    def __init__(self, config: TalkerConfig, layer: int) -> None:
        super().__init__()
        self.input_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attention = Attention(
            hidden_size=config.hidden_size,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            has_qkv_bias=True,
            layer=layer,
        )
        self.post_attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.moe = Top2MoE(config)

    def forward(
        self,
        hidden: Float[Tensor, "batch new hidden"],
        shared: _LayerInput,
        noise: Float[Tensor, "tokens experts"] | None,
    ) -> Float[Tensor, "batch new hidden"]:
        """The states after this layer."""
        hidden = hidden + self.attention(
            self.input_norm(hidden), shared.turn, shared.mask, shared.store
        )
        mixed: Tensor = self.moe(
            self.post_attention_norm(hidden),
            capacity=shared.capacity,
            noise=noise,
            is_real=shared.is_real,
        )
        return hidden + mixed


class MoETTS(nn.Module):
    """Embeddings of text and codes, decoder layers, final norm and head."""

    def __init__(self, config: TalkerConfig) -> None:
        super().__init__()
        self.config = config
        width, vocab_size = config.hidden_size, config.num_codes + NUM_CONTROLS
        self.text_embedding = nn.Embedding(config.text_vocab_size, config.text_width)
        self.text_proj = nn.Linear(config.text_width, width)
        self.code_embedding = nn.Embedding(vocab_size, width)
        self.layers = nn.ModuleList(
            TalkerLayer(config, layer) for layer in range(config.num_layers)
        )
        self.norm = RMSNorm(width, config.rms_norm_eps)
        self.head = nn.Linear(width, vocab_size)

    def embed(
        self, ids: Int[Tensor, "batch new"], is_text: Bool[Tensor, "batch new"]
    ) -> Float[Tensor, "batch new hidden"]:
        """Embeddings of text ids where `is_text`, of codes and control codes elsewhere."""
        embeddings: Tensor = self.code_embedding(ids.masked_fill(is_text, 0))
        text = self.text_proj(self.text_embedding(ids[is_text]))
        return embeddings.masked_scatter(is_text[..., None], text.to(embeddings.dtype))

    def forward(
        self,
        inputs_embeds: Float[Tensor, "batch new hidden"],
        visible: Bool[Tensor, "batch new total"] | None,
        *,
        cache: KeyValueStore | None = None,
        is_real: Bool[Tensor, "batch new"] | None = None,
        gate_noise: Float[Tensor, "layers tokens experts"] | None = None,
    ) -> Float[Tensor, "batch new hidden"]:
        """Run all layers over the new rows.

        Args:
            inputs_embeds: as `embed` makes them; positions count on from the stored ones.
            visible: who sees whom; a row that sees nothing gets the mean of all, as released.
                None: one new row, which sees everything.
            cache: keys and values of earlier rows; this forward adds the new ones. With a cache no
                expert drops a choice: what is dropped would depend on how the rows were cut.
            is_real: False on padding that takes no expert; None: every row takes two.
            gate_noise: added before the second choice of an expert; None: in training mode it is
                drawn anew if the configuration says so.
        """
        batch_size, num_new, _ = inputs_embeds.shape
        num_stored = 0 if cache is None else cache.length
        assert visible is not None or num_new == 1  # without a mask attention would be causal
        num_tokens = batch_size * num_new
        num_real = num_tokens if is_real is None else int(is_real.sum())
        capacity = expert_capacity(num_real, self.config) if cache is None else None
        shared = _LayerInput(
            turn=self._turn(num_stored, inputs_embeds),
            mask=None if visible is None else _scores(visible, inputs_embeds.dtype),
            store=cache,
            is_real=is_real,
            capacity=capacity,
        )
        if gate_noise is None and self.training and self.config.samples_second_expert:
            gate_noise = gumbel_noise(num_tokens, self.config, inputs_embeds.device)
        hidden = inputs_embeds
        for index, layer in enumerate(self.layers):
            hidden = layer(hidden, shared, None if gate_noise is None else gate_noise[index])
        if cache is not None:
            cache.advance(num_new)
        states: Tensor = self.norm(hidden)
        return states

    def loss(
        self,
        batch: SpeechBatch,
        gate_noise: Float[Tensor, "layers tokens experts"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean cross entropy of the codes and of their end, in float32."""
        states = self.forward(
            self.embed(batch.ids, batch.is_text),
            batch.visible,
            is_real=batch.is_real,
            gate_noise=gate_noise,
        )
        is_target = batch.targets != IGNORED
        logits = self.head(states[is_target]).float()
        return functional.cross_entropy(logits, batch.targets[is_target])

    def _turn(self, num_stored: int, inputs_embeds: Tensor) -> Rotation:
        batch_size, num_new, _ = inputs_embeds.shape
        positions = torch.arange(num_stored, num_stored + num_new, device=inputs_embeds.device)
        # One axis takes all channel pairs: plain rotary embedding.
        angles = rotary_angles(
            positions.expand(3, batch_size, num_new),
            (self.config.head_dim // 2, 0, 0),
            self.config.rope_theta,
        )
        return rotation(angles, inputs_embeds.dtype)


def _scores(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to the scores of attention: nothing, or the lowest number there is."""
    zeros = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return zeros.masked_fill(~visible, torch.finfo(dtype).min).unsqueeze(1)
