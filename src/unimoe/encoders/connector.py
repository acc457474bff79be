"""Connectors: from an encoder's states to embeddings of the language core.

In:  patch states [tiles, patches, width] or clip states [clips, frames, width].
Out: embeddings [tiles, tokens, hidden] or [clips, queries, hidden].
Source: paper 2.2 and equation 1; released aligner and Q-Former (docs/sources.md#connectors).
Axes: width = encoder's, hidden = core's, queries = learned tokens of a clip (20 a 3 seconds).
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unimoe.config import AudioConfig, VisionConfig
from unimoe.encoders.detail import DETAIL_WIDTH, DetailReader


def mlp(in_width: int, hidden_size: int, num_layers: int) -> nn.Sequential:
    """Linear maps with GELU (the exact one) between them; the first widens, the others keep."""
    layers: list[nn.Module] = [nn.Linear(in_width, hidden_size)]
    for _ in range(num_layers - 1):
        layers += [nn.GELU(), nn.Linear(hidden_size, hidden_size)]
    return nn.Sequential(*layers)


def pool_patches(
    patches: Float[Tensor, "tiles patches hidden"], pool_side: int
) -> Float[Tensor, "tiles tokens hidden"]:
    """Average a square of patches down to pool_side x pool_side tokens, row by row.

    Where pool_side does not divide the side, neighbouring windows share patches (27 to 12, say).
    """
    side = math.isqrt(patches.shape[1])
    square = patches.transpose(1, 2).reshape(len(patches), -1, side, side)  # [.., row, column]
    return functional.adaptive_avg_pool2d(square, pool_side).flatten(2).transpose(1, 2)


class WindowAligner(nn.Module):
    """A window's patches side by side, attention among the windows of a tile, of each its tokens.

    Nothing is averaged, so a token keeps where in its window something is; and what a whole tile
    shows (a name, how many of a kind) can be told by each of its tokens. The colours of the window,
    and of the tile if its class state is read, are added at the end: a colour's name follows from
    them by a linear map, which attention took long to find. So is what its pixels show in detail,
    which windows begin with too.
    """

    def __init__(self, config: VisionConfig, hidden_size: int) -> None:
        super().__init__()
        self.pool_side = config.pool_side
        self.reads_class_state = config.reads_class_state
        width, window = config.hidden_size, config.patches_across // config.pool_side
        self.width, self.described_width = width, config.described_width
        self.window = nn.Linear((window**2 + config.reads_class_state) * width, width)
        self.places = nn.Parameter(torch.zeros(config.pool_side**2, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                config.num_heads,
                config.ffn_width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.aligner_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.tokens_per_window = config.tokens_per_window
        self.projector = nn.Linear(width, config.tokens_per_window * hidden_size)
        self.colours: nn.Linear | None = None
        if config.colour_levels:
            shares = (1 + config.reads_class_state) * config.colour_levels**3
            self.colours = nn.Linear(shares, config.tokens_per_window * hidden_size, bias=False)
            nn.init.zeros_(self.colours.weight)
        self.detail: DetailReader | None = None
        if config.detail_side:
            self.detail = DetailReader(config.detail_side)
            joined = window**2 * DETAIL_WIDTH
            self.window_detail = nn.Linear(joined, width, bias=False)
            self.token_detail = nn.Linear(
                joined, config.tokens_per_window * hidden_size, bias=False
            )

    def forward(
        self, states: Float[Tensor, "tiles states width"]
    ) -> Float[Tensor, "tiles tokens hidden"]:
        """Embeddings of every tile; its class state, if it is read, comes last."""
        described, pixels = states[..., : self.described_width], states[..., self.described_width :]
        windows = (
            self.window(self._beside_whole(described[..., : self.width], join_patches))
            + self.places
        )
        if self.detail is not None:
            patches = pixels[:, :-1] if self.reads_class_state else pixels
            detail = join_patches(self.detail(patches), self.pool_side)
            windows = windows + self.window_detail(detail)
        for layer in self.layers:
            windows = layer(windows)
        embeddings: Tensor = self.projector(self.norm(windows))
        if self.colours is not None:
            shares = self._beside_whole(described[..., self.width :], pool_patches)
            embeddings = embeddings + self.colours(shares)
        if self.detail is not None:
            embeddings = embeddings + self.token_detail(detail)
        return embeddings.reshape(len(states), len(self.places) * self.tokens_per_window, -1)

    def _beside_whole(
        self,
        states: Float[Tensor, "tiles states some"],
        of_windows: Callable[[Tensor, int], Tensor],
    ) -> Float[Tensor, "tiles windows joined"]:
        """What windows are made of their patches, beside it the tile's own if it is read."""
        if not self.reads_class_state:
            return of_windows(states, self.pool_side)
        windows = of_windows(states[:, :-1], self.pool_side)
        whole = states[:, -1:].expand(-1, windows.shape[1], -1)
        return torch.cat([windows, whole], dim=-1)


def join_patches(
    patches: Float[Tensor, "tiles patches width"], pool_side: int
) -> Float[Tensor, "tiles tokens joined"]:
    """Every square window of patches as one long vector, row by row in it and among them."""
    side = math.isqrt(patches.shape[1])
    window = side // pool_side
    tiles, _, width = patches.shape
    cut = patches.reshape(tiles, pool_side, window, pool_side, window, width)
    return cut.transpose(2, 3).reshape(tiles, pool_side**2, window**2 * width)


_STEPS_A_QUERY = 2


class QFormer(nn.Module):
    """Learned queries that read a clip through a whole Whisper decoder.

    The queries enter as input embeddings, get learned positions, see earlier queries only
    (causal self-attention) and all frames of the clip (cross-attention without a mask).  Timed ones
    begin with what was heard at their moment, so that they need not learn where to listen.
    """

    def __init__(self, config: AudioConfig, decoder: nn.Module, hidden_size: int) -> None:
        super().__init__()
        self.query_tokens = nn.Parameter(
            torch.zeros(1, config.queries_per_clip, config.hidden_size)
        )
        self.decoder = decoder
        self.context_steps = config.context_frames // 2
        width = config.hidden_size
        self.moment = nn.Linear(_STEPS_A_QUERY * width, width) if config.timed_queries else None
        self.projector = (
            nn.Linear(config.hidden_size, hidden_size)
            if config.projector_layers == 1
            else mlp(config.hidden_size, hidden_size, config.projector_layers)
        )

    def forward(
        self, states: Float[Tensor, "clips frames width"]
    ) -> Float[Tensor, "clips queries hidden"]:
        """Embeddings of every clip."""
        queries = self.query_tokens.expand(len(states), -1, -1)
        if self.moment is not None:
            queries = queries + self.moment(self._moments(states))
        read = self.decoder(
            inputs_embeds=queries,
            encoder_hidden_states=states,
            use_cache=False,
        )
        embeddings: Tensor = self.projector(read.last_hidden_state)
        return embeddings

    def _moments(
        self, states: Float[Tensor, "clips frames width"]
    ) -> Float[Tensor, "clips queries moment"]:
        """Mean states of each half of a query's share of the clip, side by side."""
        own = states[:, self.context_steps : states.shape[1] - self.context_steps]
        num_queries = self.query_tokens.shape[1]
        halves = functional.adaptive_avg_pool1d(own.transpose(1, 2), _STEPS_A_QUERY * num_queries)
        return halves.transpose(1, 2).reshape(len(states), num_queries, -1)
