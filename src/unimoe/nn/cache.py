"""Keys and values of the tokens seen so far, so that a further token costs one token's work.

In:  keys and values [batch, kv_heads, new, head_dim] of a layer, as its attention makes them.
Out: those of all tokens so far, [batch, kv_heads, total, head_dim], as views of one buffer a layer.
A layer's buffer is made at its first `extend`, on the device and in the dtype of its keys, so a
model spread over several devices needs nothing said.
"""

from jaxtyping import Float, Int
from torch import Tensor

from unimoe.errors import RequestError

GROWTH_TOKENS = 256


class KVCache:
    """One request's (or one batch's) memory; forget it and nothing is left.

    Args:
        num_layers: of the language core.
        max_length: tokens that are never exceeded. Room is made for those that are there and
            `GROWTH_TOKENS` more: an answer costs memory as it grows, not as long as it might get.
    """

    def __init__(self, num_layers: int, *, max_length: int) -> None:
        self._buffers: list[Tensor | None] = [None] * num_layers  # [2, batch, heads, room, dim]
        self._max_length = max_length
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
        for layer, buffer in enumerate(self._buffers):
            # One at a time: all of them twice might not fit.
            if buffer is not None:
                self._buffers[layer] = buffer.index_select(1, rows.to(buffer.device))

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
        room = min(total + GROWTH_TOKENS, self._max_length)
        batch, heads, _, dim = keys.shape
        # A copy every 256 tokens is little beside attention, which reads all of them every token.
        grown = keys.new_empty(2, batch, heads, room, dim)
        if buffer is not None:
            grown[:, :, :, : self._length] = buffer[:, :, :, : self._length]
        self._buffers[layer] = grown
        return grown
