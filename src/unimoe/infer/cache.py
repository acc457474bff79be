"""Keys and values of the tokens seen so far, so that a further token costs one token's work.

In:  keys and values [batch, kv_heads, new, head_dim] of a layer, as its attention makes them.
Out: those of all tokens so far, [batch, kv_heads, total, head_dim], as views of one buffer a layer.
A layer's buffer is made at its first `extend`, on the device and in the dtype of its keys, so a
model spread over several devices needs nothing said.
"""

import math

from jaxtyping import Float, Int
from torch import Tensor

from unimoe.errors import RequestError

GROWTH_TOKENS = 256


class KVCache:
    """One request's (or one batch's) memory; forget it and nothing is left.

    Args:
        num_layers: of the language core.
        max_length: tokens that are never exceeded.
        capacity: tokens to make room for at once, which costs no copy later; None: not known, so
            room grows by blocks of `GROWTH_TOKENS`.
    """

    def __init__(self, num_layers: int, *, max_length: int, capacity: int | None = None) -> None:
        self._buffers: list[Tensor | None] = [None] * num_layers  # [2, batch, heads, room, dim]
        self._max_length = max_length
        self._capacity = min(capacity or 0, max_length)
        self._length = 0

    @property
    def length(self) -> int:
        """Tokens stored by completed forward passes."""
        return self._length

    @property
    def num_bytes(self) -> int:
        """Memory the buffers take."""
        return sum(buffer.nbytes for buffer in self._buffers if buffer is not None)

    def extend(
        self,
        layer: int,
        keys: Float[Tensor, "batch kv_heads new head_dim"],
        values: Float[Tensor, "batch kv_heads new head_dim"],
    ) -> tuple[
        Float[Tensor, "batch kv_heads total head_dim"],
        Float[Tensor, "batch kv_heads total head_dim"],
    ]:
        """Append a layer's new tokens; returns all of its keys and values.

        Raises:
            RequestError: more tokens than `max_length`.
        """
        total = self._length + keys.shape[2]
        buffer = self._buffer_for(layer, keys, total)
        buffer[0, :, :, self._length : total] = keys
        buffer[1, :, :, self._length : total] = values
        return buffer[0, :, :, :total], buffer[1, :, :, :total]

    def advance(self, num_tokens: int) -> None:
        """Count the tokens that every layer has appended by now."""
        self._length += num_tokens

    def keep_rows(self, rows: Int[Tensor, "kept"]) -> None:
        """Drop all rows of the batch but these, in this order."""
        self._buffers = [
            None if buffer is None else buffer.index_select(1, rows.to(buffer.device))
            for buffer in self._buffers
        ]

    def _buffer_for(
        self, layer: int, keys: Float[Tensor, "batch kv_heads new head_dim"], total: int
    ) -> Tensor:
        if total > self._max_length:
            raise RequestError(
                f"{total} tokens in one request; this cache ends at {self._max_length}"
            )
        buffer = self._buffers[layer]
        if buffer is not None and buffer.shape[3] >= total:
            return buffer
        whole_blocks = math.ceil(total / GROWTH_TOKENS) * GROWTH_TOKENS
        room = self._capacity if total <= self._capacity else whole_blocks
        batch, heads, _, dim = keys.shape
        grown = keys.new_empty(2, batch, heads, min(room, self._max_length), dim)
        if buffer is not None:
            grown[:, :, :, : self._length] = buffer[:, :, :, : self._length]
        self._buffers[layer] = grown
        return grown
