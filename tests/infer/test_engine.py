"""Greedy tokens are the recorded ones; batches, cancelling and seeds change nothing."""

import dataclasses
import gc
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unimoe.checkpoint.weights import load_model
from unimoe.errors import RequestError
from unimoe.infer import engine
from unimoe.infer.engine import generate
from unimoe.infer.sampling import SamplingOptions
from unimoe.model.omni import OmniModel
from unimoe.nn.cache import KVCache
from unimoe.recipes.tiny import tiny_config
from unimoe.tokens.batch import collate
from unimoe.tokens.sequence import Sample

GOLDEN = Path(__file__).parent.parent / "golden" / "checkpoint_understanding"
CASES = range(5)  # text; image; audio; video; all of them
GREEDY = SamplingOptions(max_new_tokens=12)


@pytest.fixture(scope="module")
def model():
    return load_model(GOLDEN)


def golden_sample(case):
    tensors = load_file(GOLDEN / f"inputs_{case}.safetensors")
    ids = tensors.pop("input_ids")[0]
    media = {
        name: tensors.get(name)
        for name in (
            "pixel_values",
            "image_grid_thw",
            "pixel_values_videos",
            "video_grid_thw",
            "second_per_grid_ts",
            "audio_features",
            "audio_grid_thw",
        )
    }
    return Sample(input_ids=ids, labels=None, token_counts={}, **media)


def prompts(*cases, padding="left"):
    return collate([golden_sample(case) for case in cases], pad_id=572, padding=padding)


def recorded(case):
    return load_file(GOLDEN / f"expected_{case}.safetensors")["greedy_tokens"].tolist()


def tokens_without_cache(model, batch, num_tokens):
    """The likeliest token after the whole sequence, computed anew for every token."""
    tokens = []
    for _ in range(num_tokens):
        with torch.inference_mode():
            best = model(**batch.model_inputs()).logits[:, -1:].argmax(-1)
        tokens.append(best.item())
        batch = dataclasses.replace(
            batch,
            input_ids=torch.cat([batch.input_ids, best], 1),
            attention_mask=torch.cat([batch.attention_mask, torch.ones_like(best)], 1),
        )
    return tokens


@pytest.mark.parametrize("case", CASES)
def test_greedy_tokens_are_the_recorded_ones(model, case):
    assert generate(model, prompts(case), GREEDY).tokens() == [recorded(case)]


@pytest.mark.parametrize("case", CASES)
def test_recomputing_everything_gives_the_same_tokens_as_the_cache(model, case):
    assert tokens_without_cache(model, prompts(case), 12) == recorded(case)


def test_a_padded_batch_gives_every_prompt_the_tokens_it_gets_alone(model):
    assert generate(model, prompts(*CASES), GREEDY).tokens() == [recorded(case) for case in CASES]


def test_rows_that_end_early_leave_the_others_alone(model):
    lengths = [3, 12, 1, 7, 5]
    options = [SamplingOptions(max_new_tokens=length) for length in lengths]
    tokens = generate(model, prompts(*CASES), options).tokens()
    assert tokens == [recorded(case)[:length] for case, length in zip(CASES, lengths, strict=True)]


def test_a_stop_token_ends_its_row_and_is_its_last(model):
    first, second, third = recorded(0)[:3]
    options = SamplingOptions(max_new_tokens=12, stop_tokens=(third,))
    generation = generate(model, prompts(0), options)
    steps = list(generation)
    assert [step.tokens for step in steps] == [(first,), (second,), (third,)]
    assert [step.finish_reasons for step in steps] == [(None,), (None,), ("stop",)]
    assert generation.usage().finish_reason == "stop"


def test_an_ended_row_has_neither_token_nor_reason(model):
    options = [SamplingOptions(max_new_tokens=1), SamplingOptions(max_new_tokens=2)]
    first, second = generate(model, prompts(0, 1), options)
    assert first.finish_reasons == ("length", None)
    assert second.tokens == (None, recorded(1)[1])
    assert second.finish_reasons == (None, "length")


def test_cancelling_leaves_nothing_behind_and_running_again_gives_the_same(model, monkeypatch):
    caches = []

    class WatchedCache(KVCache):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            caches.append(weakref.ref(self))

    monkeypatch.setattr(engine, "KVCache", WatchedCache)
    generation = generate(model, prompts(4), GREEDY)
    begun = [next(generation).tokens[0] for _ in range(4)]
    assert generation.usage().finish_reason is None
    generation.close()
    gc.collect()
    assert list(generation) == []
    assert generation.usage().finish_reason == "cancelled"
    assert caches[0]() is None
    assert generate(model, prompts(4), GREEDY).tokens() == [recorded(4)]
    assert begun == recorded(4)[:4]


def test_memory_grows_with_the_answer_and_not_with_its_limit(model, monkeypatch):
    monkeypatch.setattr("unimoe.nn.cache.GROWTH_TOKENS", 4)
    caches = []

    class WatchedCache(KVCache):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            caches.append(self)

    monkeypatch.setattr(engine, "KVCache", WatchedCache)
    most = model.config.core.max_positions - 20
    generation = generate(model, prompts(0), SamplingOptions(max_new_tokens=most))
    tokens, tokens_of_room = [], []
    for _ in range(12):
        tokens.append(next(generation).tokens[0])
        tokens_of_room.append(caches[0].num_bytes // bytes_of_a_token(model))
    assert tokens == recorded(0)
    assert tokens_of_room == [24] * 5 + [29] * 5 + [34] * 2


def test_growing_memory_gives_padded_rows_the_same_tokens(model, monkeypatch):
    monkeypatch.setattr("unimoe.nn.cache.GROWTH_TOKENS", 4)
    assert generate(model, prompts(*CASES), GREEDY).tokens() == [recorded(case) for case in CASES]


def bytes_of_a_token(model):
    core = model.config.core
    return core.num_layers * 2 * core.num_kv_heads * core.head_dim * 4


def sampled(seed):
    return SamplingOptions(max_new_tokens=10, temperature=1.5, top_p=0.95, seed=seed)


def test_the_same_seed_gives_the_same_sample_alone_and_in_a_batch(model):
    alone = [generate(model, prompts(case), sampled(case)).tokens()[0] for case in (0, 1, 3)]
    together = generate(model, prompts(0, 1, 3), [sampled(case) for case in (0, 1, 3)]).tokens()
    assert together == alone
    assert generate(model, prompts(0), sampled(99)).tokens()[0] != alone[0]


def test_the_chosen_seed_is_told_and_repeats_the_sample(model):
    first = generate(model, prompts(0), sampled(None))
    tokens = first.tokens()
    assert generate(model, prompts(0), sampled(first.usage().seed)).tokens() == tokens


def test_sampling_leaves_the_global_generator_alone(model):
    before = torch.get_rng_state()
    generate(model, prompts(0), sampled(1)).tokens()
    torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)


def test_usage_counts_the_prompt_by_modality(model):
    usage = generate(model, prompts(4), GREEDY).usage()
    assert usage.prompt_tokens == {"text": 18, "image": 8, "audio": 200, "video": 16}
    assert usage.new_tokens == 0


def test_usage_counts_the_experts_really_taken(model):
    """Prompt and answer in one forward without a cache: its routing masks, counted plainly."""
    generation = generate(model, prompts(1), GREEDY)
    answer = generation.tokens()[0][:-1]  # the last token is never read
    batch = prompts(1)
    batch = dataclasses.replace(
        batch,
        input_ids=torch.cat([batch.input_ids, torch.tensor([answer])], 1),
        attention_mask=torch.ones(1, batch.input_ids.shape[1] + len(answer), dtype=torch.int64),
    )
    with torch.inference_mode():
        routing = model(**batch.model_inputs()).routing
    routed = sum(int(layer.mask[:, :4].sum()) for layer in routing)
    null = sum(int(layer.mask[:, 4].sum()) for layer in routing)
    usage = generation.usage()
    assert usage.experts_per_token == routed / (3 * batch.input_ids.shape[1])
    assert usage.null_share == pytest.approx(null / (routed + null))


def test_padding_counts_in_nobodys_usage(model):
    together = generate(model, prompts(0, 4), GREEDY)
    together.tokens()
    for row, case in enumerate((0, 4)):
        alone = generate(model, prompts(case), GREEDY)
        alone.tokens()
        assert together.usage(row).prompt_tokens == alone.usage().prompt_tokens
        assert together.usage(row).experts_per_token == alone.usage().experts_per_token
        assert together.usage(row).null_share == alone.usage().null_share


def test_seconds_of_prefill_and_decode_are_told_apart(model):
    generation = generate(model, prompts(0), GREEDY)
    next(generation)
    prefill = generation.usage().prefill_seconds
    assert prefill > 0
    assert generation.usage().decode_seconds == 0
    generation.tokens()
    assert generation.usage().prefill_seconds == prefill
    assert generation.usage().decode_seconds > 0


def test_a_lower_routing_threshold_takes_fewer_experts(model):
    def experts_at(threshold):
        generation = generate(model, prompts(0), GREEDY, top_p_routing=threshold)
        generation.tokens()
        return generation.usage().experts_per_token

    assert experts_at(0.2) < experts_at(None) < experts_at(0.99)


def test_a_dense_model_has_no_experts_and_no_dial():
    config = dataclasses.replace(
        tiny_config(), core=dataclasses.replace(tiny_config().core, moe=None)
    )
    dense = OmniModel(config).eval()
    batch = prompts(0)
    batch = dataclasses.replace(batch, input_ids=batch.input_ids % 400)
    generation = generate(dense, batch, GREEDY)
    generation.tokens()
    assert generation.usage().experts_per_token is generation.usage().null_share is None
    with pytest.raises(RequestError, match="this model is dense"):
        generate(dense, batch, GREEDY, top_p_routing=0.5)


@pytest.mark.parametrize("threshold", [0.0, 1.5, float("nan")])
def test_an_impossible_routing_threshold_is_refused(model, threshold):
    with pytest.raises(RequestError, match=r"top_p_routing is .* above 0 to 1"):
        generate(model, prompts(0), GREEDY, top_p_routing=threshold)


def test_an_answer_without_room_is_refused_with_the_counts(model):
    most = model.config.core.max_positions
    generate(model, prompts(0), SamplingOptions(max_new_tokens=most - 20))
    with pytest.raises(RequestError, match=f"20 tokens.* {most + 1}; .* at most {most - 20}"):
        generate(model, prompts(0), SamplingOptions(max_new_tokens=most - 19))


def test_padding_on_the_right_is_refused(model):
    with pytest.raises(RequestError, match="padding on the left"):
        generate(model, prompts(0, 1, padding="right"), GREEDY)


def test_packed_rows_are_refused(model):
    batch = prompts(0)
    batch = dataclasses.replace(batch, attention_mask=torch.tensor([[1] * 10 + [2] * 10]))
    with pytest.raises(RequestError, match="packed"):
        generate(model, batch, GREEDY)


def test_options_must_fit_the_rows(model):
    with pytest.raises(RequestError, match="3 sampling options for 2 prompts"):
        generate(model, prompts(0, 1), [GREEDY] * 3)
