import json
from collections import Counter
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unimoe.data.mixture import Mixture, _shuffled
from unimoe.errors import ConfigError, DataError

KEYS = [3, 1, 4, 1, 5, 9]


def drawn(mixture: Mixture, count: int) -> list[tuple[str, int]]:
    return [(draw.source, draw.number) for draw in islice(mixture, count)]


@settings(max_examples=15)
@given(st.integers(1, 300), st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6))
def test_a_shuffled_order_holds_every_number_once(size: int, keys: list[int]) -> None:
    assert sorted(_shuffled(i, size, keys) for i in range(size)) == list(range(size))


def test_a_shuffled_order_looks_random() -> None:
    order = [_shuffled(i, 1000, KEYS) for i in range(1000)]

    ascents = sum(a < b for a, b in pairwise(order))
    assert 450 < ascents < 550
    assert sum(index == place for place, index in enumerate(order)) < 8
    assert sum(index < 500 for index in order[:500]) in range(215, 285)


@settings(max_examples=15)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 9))
def test_ranks_together_see_every_sample_once_a_pass(size: int, world: int, seed: int) -> None:
    ranks = [
        Mixture({"a": [7] * size}, {"a": 1}, seed=seed, rank=rank, world=world)
        for rank in range(world)
    ]
    # In turns, as the order of all ranks is.
    seen = [next(ranks[turn % world]).number for turn in range(3 * size)]

    for epoch in range(3):
        assert sorted(seen[epoch * size : (epoch + 1) * size]) == list(range(size))


lengths = st.lists(st.integers(1, 50), min_size=1, max_size=20)


@settings(max_examples=15)
@given(st.dictionaries(st.sampled_from("abc"), lengths, min_size=1), st.integers(0, 80))
def test_resumed_equals_uninterrupted(sources: dict[str, list[int]], before: int) -> None:
    shares = {name: 1 + number for number, name in enumerate(sources)}
    whole, first, second = (Mixture(sources, shares, seed=5, rank=1, world=3) for _ in range(3))

    drawn(first, before)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))

    assert drawn(whole, before + 60)[before:] == drawn(second, 60)


@settings(max_examples=15)
@given(lengths, lengths, st.floats(0.1, 10))
def test_shares_are_kept_in_tokens_to_a_sample(a: list[int], b: list[int], share: float) -> None:
    mixture = Mixture({"a": a, "b": b}, {"a": share, "b": 1.0})

    drawn(mixture, 150)

    total = sum(mixture.tokens.values())
    assert abs(mixture.tokens["a"] - total * share / (share + 1)) <= 50


def test_passes_are_shuffled_differently_and_seeds_too() -> None:
    first, second = Mixture({"a": [1] * 50}, {"a": 1}), Mixture({"a": [1] * 50}, {"a": 1}, seed=1)

    passes = [drawn(first, 50), drawn(first, 50), drawn(second, 50)]

    assert passes[0] != passes[1] != passes[2] != passes[0]
    assert first.epochs == {"a": 2.0}


def test_samples_of_length_0_are_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    mixture = Mixture({"a": [5, 0, 5, 0]}, {"a": 1})

    assert Counter(drawn(mixture, 10)) == {("a", 0): 5, ("a", 2): 5}
    assert "a: 2 of 4 samples left out" in caplog.text


def test_the_order_of_one_seed_never_changes() -> None:
    mixture = Mixture({"a": [3] * 9, "b": [2] * 5}, {"a": 2, "b": 1}, seed=7)

    order = " ".join(f"{name}{number}" for name, number in drawn(mixture, 12))
    assert order == "a5 b0 a0 b4 a3 b2 a2 a7 b3 a6 b1 a1"


def test_a_state_of_another_mixture_is_refused() -> None:
    state = Mixture({"a": [1, 2]}, {"a": 1}).state_dict()

    with pytest.raises(DataError, match=r"samples {'a': 2}, this mixture {'a': 3}"):
        Mixture({"a": [1, 2, 3]}, {"a": 1}).load_state_dict(state)
    with pytest.raises(DataError, match="world 1, this mixture 2"):
        Mixture({"a": [1, 2]}, {"a": 1}, world=2).load_state_dict(state)


def test_an_impossible_mixture_is_refused() -> None:
    with pytest.raises(ConfigError, match="a mixture of b; there are a"):
        Mixture({"a": [1]}, {"b": 1})
    with pytest.raises(ConfigError, match="the share of a is 0"):
        Mixture({"a": [1]}, {"a": 0})
    with pytest.raises(ConfigError, match="rank 2 of 2"):
        Mixture({"a": [1]}, {"a": 1}, rank=2, world=2)
    with pytest.raises(DataError, match="a: none of 2 samples is usable"):
        Mixture({"a": [0, 0]}, {"a": 1})
