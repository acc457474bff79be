"""What each option keeps, that seeds repeat, that stop strings never leak."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unimoe.errors import CheckpointError, RequestError
from unimoe.infer.sampling import (
    Sampler,
    SamplingOptions,
    StopText,
    candidates,
    check_number,
    choose_tokens,
)

# probabilities 0.5, 0.25, 0.15, 0.1 of tokens 2, 0, 3, 1
LOGITS = torch.tensor([0.25, 0.1, 0.5, 0.15]).log()
NO_PROMPT = torch.zeros(0, dtype=torch.int64)


def kept(logits, **options):
    left = candidates(logits, SamplingOptions(temperature=1.0, **options))
    pairs = zip(left.token_ids.tolist(), left.probabilities.tolist(), strict=True)
    return {token for token, probability in pairs if probability > 0}


def draw(num_tokens, *, logits=LOGITS, prompt=NO_PROMPT, **options):
    sampler = Sampler(SamplingOptions(**options), prompt, logits.numel())
    return [sampler.choose(logits) for _ in range(num_tokens)]


def test_temperature_zero_takes_the_likeliest_token():
    assert draw(3) == [2, 2, 2]


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({}, {0, 1, 2, 3}),
        ({"top_k": 1}, {2}),
        ({"top_k": 3}, {2, 0, 3}),
        ({"top_k": 99}, {0, 1, 2, 3}),
        ({"top_p": 0.4}, {2}),
        ({"top_p": 0.6}, {2, 0}),
        ({"top_p": 0.8}, {2, 0, 3}),
        ({"top_p": 1e-9}, {2}),
        ({"min_p": 0.25}, {2, 0, 3}),
        ({"min_p": 0.45}, {2, 0}),
        ({"min_p": 1.0}, {2}),
        ({"top_k": 2, "top_p": 0.7}, {2, 0}),  # of two: 2/3 and 1/3, so 0.7 needs both
        ({"top_k": 2, "top_p": 0.6}, {2}),
        ({"top_p": 0.8, "min_p": 0.45}, {2, 0}),
    ],
)
def test_filters_keep_exactly_these_tokens(options, tokens):
    assert kept(LOGITS, **options) == tokens


def test_temperature_divides_the_logits():
    left = candidates(LOGITS, SamplingOptions(temperature=0.5))
    squares = LOGITS.exp() ** 2
    torch.testing.assert_close(left.probabilities, squares / squares.sum())


def test_draws_follow_the_distribution():
    tokens = torch.tensor(draw(4000, temperature=1.0, seed=3))
    shares = torch.bincount(tokens, minlength=4) / 4000
    # four standard deviations of a share of 0.5 over 4000 draws
    torch.testing.assert_close(shares, LOGITS.exp(), atol=0.032, rtol=0)


def test_repetition_penalty_counts_prompt_and_answer():
    logits = torch.tensor([2.0, 1.5, -1.0, 1.2])
    prompt = torch.tensor([0, 2])
    # 2.0 falls to 1.0 as it was in the prompt; then 1.5 is said and falls to 0.75, and so on
    assert draw(4, logits=logits, prompt=prompt, repetition_penalty=2.0) == [1, 3, 0, 0]


def test_repetition_penalty_lowers_negative_logits_too():
    logits = torch.tensor([-1.0, -1.5])
    assert draw(1, logits=logits, prompt=torch.tensor([0]), repetition_penalty=2.0) == [1]


def test_same_seed_gives_the_same_tokens_and_another_seed_others():
    first = draw(40, temperature=1.0, seed=11)
    assert draw(40, temperature=1.0, seed=11) == first
    assert draw(40, temperature=1.0, seed=12) != first


def test_missing_seed_is_chosen_once_and_can_be_told_in_json():
    options = SamplingOptions(temperature=1.0).seeded()
    assert options.seeded() is options
    assert json.loads(json.dumps(float(options.seed))) == options.seed
    assert SamplingOptions().seeded().seed != options.seed


@given(st.integers(0, 2**31), st.integers(1, 5))
def test_a_row_draws_the_same_alone_and_in_any_batch(seed, num_others):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_others + 1, 32, generator=generator)
    options = SamplingOptions(temperature=1.3, top_p=0.9, seed=seed)

    def sampler(seed_shift):
        return Sampler(SamplingOptions(temperature=1.0, seed=seed + seed_shift), NO_PROMPT, 32)

    mine = Sampler(options, NO_PROMPT, 32)
    together = choose_tokens([sampler(i + 1) for i in range(num_others)] + [mine], logits)
    alone = choose_tokens([Sampler(options, NO_PROMPT, 32)], logits[-1:])
    assert together[-1] == alone[0]


def test_a_token_of_zero_probability_is_never_drawn():
    logits = torch.tensor([-math.inf, 0.0, -math.inf, 0.0])
    assert set(draw(200, logits=logits, temperature=1.0, seed=0)) == {1, 3}


def test_greedy_rows_and_drawing_rows_share_a_batch():
    greedy = Sampler(SamplingOptions(), NO_PROMPT, 4)
    drawing = Sampler(SamplingOptions(temperature=1.0, top_k=1), NO_PROMPT, 4)
    assert choose_tokens([greedy, drawing], torch.stack([LOGITS, LOGITS])) == [2, 2]


def test_nan_logits_are_an_error_and_no_token():
    logits = torch.tensor([[1.0, 2.0], [math.nan, 5.0]])
    samplers = [Sampler(SamplingOptions(), NO_PROMPT, 2) for _ in range(2)]
    with pytest.raises(CheckpointError, match="NaN"):
        choose_tokens(samplers, logits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0; need a whole number from 1 up"),
        ({"temperature": -0.1}, "temperature is -0.1; need a number from 0 to 100"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": 1.0, "top_k": 0}, "top_k is 0"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p is 0.0; need a number above 0 to 1"),
        ({"temperature": 1.0, "top_p": 1.01}, "top_p is 1.01"),
        ({"temperature": 1.0, "min_p": 2.0}, "min_p is 2.0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**53}, "seed is"),
        ({"stop": ("",)}, "non-empty"),
        ({"stop_tokens": (-3,)}, "stop_tokens is -3"),
        ({"top_p": 0.9}, "top_p=0.9 has no effect at temperature 0.*set a temperature"),
        ({"top_k": 5}, "top_k=5 has no effect"),
        ({"min_p": 0.1}, "min_p=0.1 has no effect"),
    ],
)
def test_an_impossible_option_is_refused_with_value_and_range(options, message):
    with pytest.raises(RequestError, match=message):
        SamplingOptions(**options)


@pytest.mark.parametrize("value", ["hot", True, None, 1.5])
def test_a_count_that_is_no_whole_number_is_refused(value):
    with pytest.raises(RequestError, match=f"top_k is {value!r}; need a whole number from 1 up"):
        check_number("top_k", value, low=1.0, whole=True)


def passed(stop, pieces):
    """The pieces shown one by one, then what is flushed, and whether a stop was met."""
    text = StopText(stop)
    shown = [text.push(piece) for piece in pieces]
    return shown, text.flush(), text.found


def test_a_stop_string_across_pieces_is_not_shown():
    assert passed(("END",), ["one E", "N", "D two"]) == (["one ", "", ""], "", True)


def test_what_only_looked_like_a_stop_is_shown_after_all():
    assert passed(("END",), ["E", "NG"]) == (["", "ENG"], "", False)
    assert passed(("END",), ["the E"]) == (["the "], "E", False)


def test_the_stop_that_ends_first_counts():
    assert passed(("d", "bc"), ["abcd"]) == (["a"], "", True)
    assert passed(("aba", "b"), ["aba"]) == (["a"], "", True)


def test_without_stops_everything_passes_at_once():
    assert passed((), ["a", "", "b"]) == (["a", "", "b"], "", False)


@given(st.text(alphabet="ab", max_size=20), st.lists(st.text("ab", min_size=1), max_size=3))
def test_pieces_show_what_the_whole_text_shows(text, stops):
    stop = tuple(stops)
    whole_shown, whole_rest, whole_found = passed(stop, [text])
    shown, rest, found = passed(stop, list(text))
    assert found is whole_found is any(s in text for s in stop)
    assert "".join(shown) + rest == whole_shown[0] + whole_rest
    assert not any(s in "".join(shown) + rest for s in stop)
    assert found or "".join(shown) + rest == text
