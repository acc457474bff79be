"""The language core: a decoder whose feed-forward blocks are dense or dynamic mixtures of experts.

In:  embeddings [batch, new, hidden] and position ids [3, batch, new].
Out: hidden states [batch, new, hidden] after the final norm; logits of the rows that are asked for.
Source: paper section 2.3; released decoder (docs/sources.md#decoder).
Axes: new = tokens of this call, total = stored tokens + new ones, 3 = (t, h, w).
"""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from unimoe.config import CoreConfig
from unimoe.nn.attention import (
    Attention,
    KeyValueStore,
    SampleLengths,
    attention_pattern,
    sample_lengths,
)
from unimoe.nn.layers import RMSNorm, SwiGLU
from unimoe.nn.moe import DynamicMoE
from unimoe.nn.rope import Rotation, rotary_angles, rotation
from unimoe.nn.router import Routing


class CoreOutput(NamedTuple):
    """Result of one forward."""

    hidden_states: Float[Tensor, "batch new hidden"]
    """After the final norm."""
    routing: tuple[Routing, ...]
    """One a layer with experts; empty when all feed-forward blocks are dense."""


class LayerInput(NamedTuple):
    """What every layer of one forward shares."""

    turn: Rotation
    pattern: Bool[Tensor, "#batch 1 new total"] | SampleLengths | None
    store: KeyValueStore | None
    is_real: Bool[Tensor, "batch new"] | None
    """False for padding; None: there is no padding."""
    top_p: float | None


class DecoderLayer(nn.Module):
    """Attention and a feed-forward block, each on the normed states and added to them."""

    def __init__(self, config: CoreConfig, layer: int) -> None:
        super().__init__()
        self.input_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attention = Attention(
            hidden_size=config.hidden_size,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            has_qkv_bias=config.has_qkv_bias,
            layer=layer,
            delta_rank=config.attention_delta_rank,
        )
        self.post_attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.ffn: SwiGLU | DynamicMoE = (
            SwiGLU(config.hidden_size, config.ffn_width)
            if config.moe is None or layer in config.dense_layers
            else DynamicMoE(config.hidden_size, config.moe)
        )

    def forward(
        self, hidden: Float[Tensor, "batch new hidden"], shared: LayerInput
    ) -> tuple[Float[Tensor, "batch new hidden"], Routing | None]:
        """The states after this layer, and where its tokens went (None: dense)."""
        hidden = hidden + self.attention(
            self.input_norm(hidden), shared.turn, shared.pattern, shared.store
        )
        normed = self.post_attention_norm(hidden)
        if isinstance(self.ffn, SwiGLU):
            return hidden + self.ffn(normed), None
        mixed, routing = self.ffn(normed, token_mask=shared.is_real, top_p=shared.top_p)
        return hidden + mixed, routing


class LanguageCore(nn.Module):
    """Token embedding, decoder layers, final norm and head."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            DecoderLayer(config, layer) for layer in range(config.num_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = (
            None
            if config.ties_embeddings
            else nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        )

    def embed(self, input_ids: Int[Tensor, "batch new"]) -> Float[Tensor, "batch new hidden"]:
        """Embeddings of text tokens."""
        embeddings: Tensor = self.embed_tokens(input_ids)
        return embeddings

    def logits(self, hidden_states: Float[Tensor, "*rows hidden"]) -> Float[Tensor, "*rows vocab"]:
        """Scores of the next token; give only the rows that are wanted, the head is wide."""
        head = self.embed_tokens if self.lm_head is None else self.lm_head
        return functional.linear(hidden_states, head.weight)

    def forward(
        self,
        inputs_embeds: Float[Tensor, "batch new hidden"],
        position_ids: Int[Tensor, "3 batch new"],
        *,
        attention_mask: Int[Tensor, "batch total"] | None = None,
        cache: KeyValueStore | None = None,
        top_p_routing: float | None = None,
    ) -> CoreOutput:
        """Run all layers over the new tokens.

        Args:
            inputs_embeds: text embeddings with the features of media in their places.
            position_ids: (t, h, w) of every new token.
            attention_mask: 0 for padding, n > 0 for the tokens of the row's n-th sample; it covers
                the stored tokens too. None: one sample a row, no padding.
            cache: keys and values of earlier tokens; this forward adds the new ones.
            top_p_routing: overrides the routing threshold of the configuration.
        """
        num_new = inputs_embeds.shape[1]
        pattern: Tensor | SampleLengths | None = attention_pattern(
            attention_mask,
            num_new=num_new,
            num_stored=0 if cache is None else cache.length,
            device=inputs_embeds.device,
        )
        if pattern is not None and attention_mask is not None and cache is None:
            pattern = sample_lengths(attention_mask) or pattern
        angles = rotary_angles(position_ids, self.config.rope_sections, self.config.rope_theta)
        shared = LayerInput(
            turn=rotation(angles, inputs_embeds.dtype),
            pattern=pattern,
            store=cache,
            is_real=None if attention_mask is None else attention_mask[:, -num_new:] > 0,
            top_p=top_p_routing,
        )
        hidden, routings = inputs_embeds, []
        for layer in self.layers:
            hidden, routing = layer(hidden, shared)
            routings.append(routing)
        if cache is not None:
            cache.advance(num_new)
        taken = tuple(routing for routing in routings if routing is not None)
        return CoreOutput(hidden_states=self.norm(hidden), routing=taken)
