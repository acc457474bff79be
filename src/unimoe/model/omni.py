"""The whole model: encoders put the features of media among the text embeddings, the core reads on.

In:  token ids [batch, new] with one placeholder a feature, tiles [tiles, 3, side, side], log-mel
     clips [clips, mel, frames].
Out: logits, hidden states, losses, routing.
Source: paper section 2; released inputs and names (docs/sources.md#model).
Axes: new = tokens of this call, total = stored tokens + new ones, grid = (frames, tile rows,
tile columns), 3 of positions = (t, h, w).
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unimoe.config import OmniConfig
from unimoe.encoders.audio import AudioEncoder
from unimoe.encoders.vision import VisionEncoder
from unimoe.errors import RequestError
from unimoe.model.core import CoreOutput, LanguageCore
from unimoe.model.loss import OmniLoss, mean_balance_loss, mean_z_loss, text_loss
from unimoe.model.merge import Medium, merge
from unimoe.nn.attention import KeyValueStore
from unimoe.nn.router import Routing
from unimoe.tokens.positions import Positions, omni_positions

INITIAL_STD = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class OmniOutput:
    """Result of one forward."""

    logits: Float[Tensor, "batch rows vocab"]
    """Of the last `logits_rows` tokens, or of all."""
    hidden_states: Float[Tensor, "batch new hidden"]
    """After the final norm."""
    inputs_embeds: Float[Tensor, "batch new hidden"]
    """What the core read: text embeddings with the features of media in their places."""
    position_ids: Int[Tensor, "3 batch new"]
    rope_deltas: Int[Tensor, "batch 1"]
    """Next position minus tokens so far, padding included: decoding adds it to the token count."""
    loss: OmniLoss | None
    """None without labels."""
    routing: tuple[Routing, ...]
    """One a layer; empty when the core is dense."""


class OmniModel(nn.Module):
    """Vision encoder, audio encoder, language core; the encoders are None where there is none."""

    def __init__(self, config: OmniConfig) -> None:
        super().__init__()
        self.config = config
        sizes = config.core.hidden_size, config.core.vocab_size
        self.core = LanguageCore(config.core)
        self.vision = None if config.vision is None else VisionEncoder(config.vision, *sizes)
        self.audio = None if config.audio is None else AudioEncoder(config.audio, *sizes)
        initialise(self)

    @property
    def device(self) -> torch.device:
        """Where token ids go."""
        return self.core.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of embeddings and hidden states."""
        return self.core.embed_tokens.weight.dtype

    def forward(
        self,
        input_ids: Int[Tensor, "batch new"],
        *,
        attention_mask: Int[Tensor, "batch total"] | None = None,
        labels: Int[Tensor, "batch new"] | None = None,
        pixel_values: Float[Tensor, "tiles 3 side side"] | None = None,
        image_grid_thw: Int[Tensor, "images 3"] | None = None,
        pixel_values_videos: Float[Tensor, "frame_tiles 3 side side"] | None = None,
        video_grid_thw: Int[Tensor, "videos 3"] | None = None,
        second_per_grid_ts: Float[Tensor, " videos"] | None = None,
        audio_features: Float[Tensor, "clips mel frames"] | None = None,
        audio_grid_thw: Int[Tensor, " audios"] | None = None,
        image_states: Float[Tensor, "tiles patches width"] | None = None,
        video_states: Float[Tensor, "frame_tiles patches width"] | None = None,
        audio_states: Float[Tensor, "clips steps audio_width"] | None = None,
        aux_balance_weight: Float[Tensor, "batch new"] | Int[Tensor, "batch new"] | None = None,
        position_ids: Int[Tensor, "3 batch new"] | None = None,
        cache: KeyValueStore | None = None,
        logits_rows: int | None = None,
        top_p_routing: float | None = None,
    ) -> OmniOutput:
        """Read the new tokens and score what follows them.

        Args:
            input_ids: a placeholder token stands for every feature of a medium.
            attention_mask: 0 for padding, n > 0 for the tokens of the row's n-th sample; it covers
                the tokens in the cache too. None: one sample a row, no padding.
            labels: the tokens themselves where they count, -100 elsewhere; shifted here.
            pixel_values: tiles of all images of the batch, in order.
            image_grid_thw: (1, tile rows, tile columns) of every image.
            pixel_values_videos: tiles of all frames of all videos, in order.
            video_grid_thw: (frames, tile rows, tile columns) of every video.
            second_per_grid_ts: seconds between the frames of every video.
            audio_features: log-mel clips of all audio, in order.
            audio_grid_thw: clips of every audio.
            image_states: instead of pixel_values, what the frozen tower made of them.
            video_states: likewise, instead of pixel_values_videos.
            audio_states: likewise, instead of audio_features.
            aux_balance_weight: what a token counts for in the router balance loss.
            position_ids: needed when tokens are stored; None: computed.
            cache: keys and values of earlier tokens; this forward adds the new ones.
            logits_rows: score only the last so many tokens, 0 for none; None: all.
            top_p_routing: threshold of the routers for this forward: the compute dial.

        Raises:
            RequestError: placeholders and features differ in number, or positions are missing.
        """
        num_new = input_ids.shape[1]
        num_stored = 0 if cache is None else cache.length
        media = (pixel_values, pixel_values_videos, audio_features)
        states = (image_states, video_states, audio_states)
        if num_stored and all(rows is None for rows in (*media, *states)):
            inputs_embeds = self.core.embed(input_ids)  # a generated placeholder is mere text
        else:
            inputs_embeds = self.embed_inputs(input_ids, *media, *states)
        if position_ids is None:
            grids = (image_grid_thw, video_grid_thw, second_per_grid_ts, audio_grid_thw)
            positions = self._positions(input_ids, attention_mask, num_stored, *grids)
        else:
            positions = _given_positions(position_ids, num_stored + num_new)
        output = self.core(
            inputs_embeds,
            positions.ids,
            attention_mask=attention_mask,
            cache=cache,
            top_p_routing=top_p_routing,
        )
        hidden = output.hidden_states
        wanted = hidden if logits_rows is None else hidden[:, max(num_new - logits_rows, 0) :]
        loss = None
        if labels is not None:
            new_mask = None if attention_mask is None else attention_mask[:, num_stored:]
            loss = self._loss(output, labels, new_mask, aux_balance_weight)
        return OmniOutput(
            logits=self.core.logits(wanted),
            hidden_states=hidden,
            inputs_embeds=inputs_embeds,
            position_ids=positions.ids,
            rope_deltas=positions.delta,
            loss=loss,
            routing=output.routing,
        )

    def embed_inputs(
        self,
        input_ids: Int[Tensor, "batch new"],
        pixel_values: Float[Tensor, "tiles 3 side side"] | None = None,
        pixel_values_videos: Float[Tensor, "frame_tiles 3 side side"] | None = None,
        audio_features: Float[Tensor, "clips mel frames"] | None = None,
        image_states: Float[Tensor, "tiles patches width"] | None = None,
        video_states: Float[Tensor, "frame_tiles patches width"] | None = None,
        audio_states: Float[Tensor, "clips steps audio_width"] | None = None,
    ) -> Float[Tensor, "batch new hidden"]:
        """Text embeddings with the features of media written over their placeholders, in order.

        Media of one kind come as signals or as the states of their frozen tower.

        Raises:
            RequestError: a kind of media has more or fewer placeholders than features, or the
                model has no encoder for it.
        """
        tokens, vision, audio = self.config.special_tokens, self.config.vision, self.config.audio
        per_tile = 0 if vision is None else vision.tokens_per_tile
        per_clip = 0 if audio is None else audio.queries_per_clip
        embeds = self.core.embed(input_ids)
        for name, placeholder, signals, states, encoder, per_row in (
            ("image", tokens.image_pad, pixel_values, image_states, self.vision, per_tile),
            ("video", tokens.video_pad, pixel_values_videos, video_states, self.vision, per_tile),
            ("audio", tokens.audio_pad, audio_features, audio_states, self.audio, per_clip),
        ):
            encode = None
            if encoder is not None:
                read = encoder.read if signals is None else encoder
                encode = partial(read, table=self.core.embed_tokens.weight)
            medium = Medium(name, placeholder, encode, signals, states, per_row)
            with self.core_precision():
                embeds = merge(embeds, input_ids, medium)
        return embeds

    def core_precision(self) -> torch.autocast:
        """Within it, connectors that learn in float32 beside a bf16 core compute in bf16."""
        is_half = self.dtype == torch.bfloat16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=is_half)

    def _positions(
        self,
        input_ids: Int[Tensor, "batch new"],
        attention_mask: Int[Tensor, "batch new"] | None,
        num_stored: int,
        image_grid_thw: Int[Tensor, "images 3"] | None,
        video_grid_thw: Int[Tensor, "videos 3"] | None,
        second_per_grid_ts: Float[Tensor, " videos"] | None,
        audio_grid_thw: Int[Tensor, " audios"] | None,
    ) -> Positions:
        if num_stored:
            raise RequestError(
                f"{num_stored} tokens are stored, and only the caller knows where they ended; "
                f"pass position_ids"
            )
        return omni_positions(
            input_ids,
            attention_mask,
            config=self.config,
            image_grid_thw=image_grid_thw,
            video_grid_thw=video_grid_thw,
            second_per_grid_ts=second_per_grid_ts,
            audio_grid_thw=audio_grid_thw,
        )

    def _loss(
        self,
        output: CoreOutput,
        labels: Int[Tensor, "batch new"],
        attention_mask: Int[Tensor, "batch new"] | None,
        aux_balance_weight: Float[Tensor, "batch new"] | Int[Tensor, "batch new"] | None,
    ) -> OmniLoss:
        config = self.config
        text = text_loss(output.hidden_states, labels, attention_mask, self.core.logits)
        balance = z = text.new_zeros(())
        if config.core.moe is not None:
            router = config.core.moe.router
            balance = mean_balance_loss(output.routing, router, attention_mask, aux_balance_weight)
            if config.z_loss_weight > 0:
                z = mean_z_loss(output.routing, attention_mask)
        total = text + config.balance_weight * balance + config.z_loss_weight * z
        return OmniLoss(total=total, text=text, balance=balance, z=z)


def _given_positions(position_ids: Int[Tensor, "3 batch new"], total: int) -> Positions:
    return Positions(position_ids, position_ids.amax((0, 2))[:, None] + 1 - total)


@torch.no_grad()
def initialise(model: OmniModel) -> None:
    """Random weights: maps and embeddings normal(0, 0.02), norms 1, biases and queries 0.

    All words may be said. Towers, Q-Former decoder and writer keep what transformers gave them:
    they are there to be loaded.
    """
    for name, parameter in model.named_parameters():
        if any(part in name for part in (".tower.", ".qformer.decoder.", ".writer.")):
            continue
        if name.endswith(("norm.weight", ".words.spoken")):
            parameter.fill_(1.0)
        elif name.endswith((".bias", ".query_tokens")):
            parameter.zero_()
        else:
            parameter.normal_(0.0, INITIAL_STD)
