"""The cache hands back what went in, without copies, and refuses to run over."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unimoe.errors import RequestError
from unimoe.nn.cache import GROWTH_TOKENS, KVCache


def keys_of(batch, num_tokens, *, start=0.0):
    """Distinct numbers [batch, 2 heads, tokens, 4]."""
    count = batch * 2 * num_tokens * 4
    return (start + torch.arange(count, dtype=torch.float32)).reshape(batch, 2, num_tokens, 4)


@given(st.lists(st.sampled_from([1, 2, 9, 200, 300]), min_size=1, max_size=6))
def test_pieces_come_back_as_the_whole(lengths):
    whole = keys_of(3, sum(lengths))
    cache = KVCache(2, max_length=sum(lengths))
    start = 0
    for length in lengths:
        piece = whole[:, :, start : start + length]
        first = cache.extend(0, piece, -piece)
        second = cache.extend(1, 2 * piece, piece)
        cache.advance(length)
        start += length
    assert cache.length == sum(lengths)
    torch.testing.assert_close(first, (whole, -whole), rtol=0, atol=0)
    torch.testing.assert_close(second, (2 * whole, whole), rtol=0, atol=0)


def test_room_lasts_a_block_of_tokens_and_decoding_copies_nothing_meanwhile():
    cache = KVCache(1, max_length=2000)
    cache.extend(0, keys_of(1, 500), keys_of(1, 500))
    cache.advance(500)
    before = cache.num_bytes
    address = cache.extend(0, keys_of(1, 1), keys_of(1, 1))[0].data_ptr()
    cache.advance(1)
    for _ in range(GROWTH_TOKENS - 1):
        keys, _ = cache.extend(0, keys_of(1, 1), keys_of(1, 1))
        cache.advance(1)
    assert keys.data_ptr() == address
    assert cache.num_bytes == before == 2 * 2 * (500 + GROWTH_TOKENS) * 4 * 4


def test_room_grows_by_blocks_up_to_the_limit():
    cache = KVCache(1, max_length=GROWTH_TOKENS + 10)
    bytes_of_a_token = 2 * 2 * 4 * 4
    cache.extend(0, keys_of(1, 3), keys_of(1, 3))
    cache.advance(3)
    assert cache.num_bytes == (GROWTH_TOKENS + 3) * bytes_of_a_token
    cache.extend(0, keys_of(1, GROWTH_TOKENS + 1), keys_of(1, GROWTH_TOKENS + 1))
    assert cache.num_bytes == (GROWTH_TOKENS + 10) * bytes_of_a_token


def test_more_tokens_than_the_limit_are_refused():
    cache = KVCache(1, max_length=4)
    cache.extend(0, keys_of(1, 4), keys_of(1, 4))
    cache.advance(4)
    with pytest.raises(RequestError, match="5 tokens in one request; this cache ends at 4"):
        cache.extend(0, keys_of(1, 1), keys_of(1, 1))


def test_kept_rows_stay_and_the_others_go():
    keys = keys_of(3, 5)
    cache = KVCache(1, max_length=8)
    cache.extend(0, keys, keys)
    cache.advance(5)
    cache.keep_rows(torch.tensor([2, 0]))
    new = keys_of(2, 1, start=1000.0)
    all_keys, _ = cache.extend(0, new, new)
    torch.testing.assert_close(all_keys[:, :, :5], keys[[2, 0]], rtol=0, atol=0)
    torch.testing.assert_close(all_keys[:, :, 5:], new, rtol=0, atol=0)


def test_rows_are_dropped_layer_by_layer(monkeypatch):
    cache = KVCache(3, max_length=8)
    for layer in range(3):
        cache.extend(layer, keys_of(2, 5), keys_of(2, 5))
    cache.advance(5)
    sizes = []

    def watched_select(buffer, *arguments):
        sizes.append(cache.num_bytes)
        return select(buffer, *arguments)

    select = torch.Tensor.index_select
    monkeypatch.setattr(torch.Tensor, "index_select", watched_select)
    cache.keep_rows(torch.tensor([1]))
    whole = 3 * 2 * 2 * 2 * 8 * 4 * 4
    assert sizes == [whole, whole * 5 // 6, whole * 4 // 6]
