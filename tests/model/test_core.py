import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.llama import LlamaConfig, LlamaForCausalLM
from transformers.models.qwen2 import Qwen2Config, Qwen2ForCausalLM

from unimoe.config import CoreConfig, MoEConfig, RouterConfig
from unimoe.model.core import CoreOutput, LanguageCore
from unimoe.nn.cache import KVCache

DENSE = CoreConfig(
    vocab_size=50,
    hidden_size=48,
    num_layers=3,
    num_heads=6,
    num_kv_heads=2,
    head_dim=8,
    ffn_width=64,
    rope_sections=(2, 1, 1),
)
PAPER = dataclasses.replace(DENSE, moe=MoEConfig(routed_width=40, shared_width=8))
RELEASED = dataclasses.replace(
    DENSE,
    moe=MoEConfig(router=RouterConfig(rule="released"), routed_width=40, shared_width=8),
)
ALL = {"dense": DENSE, "paper": PAPER, "released": RELEASED}


def random_core(config: CoreConfig) -> LanguageCore:
    """Weights large enough that attention looks somewhere and routers tell tokens apart."""
    core = LanguageCore(config).eval()
    generator = torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in core.named_parameters():
            std = 1.0 if "router" in name else 0.15
            if parameter.ndim > 1:
                parameter.normal_(0.0, std, generator=generator)
    return core


CORES = {name: random_core(config) for name, config in ALL.items()}


def tokens_of(*shape: int) -> Tensor:
    return torch.randint(0, 50, shape, generator=torch.manual_seed(sum(shape)))


def text_positions(lengths: list[int]) -> Tensor:
    return torch.cat([torch.arange(length) for length in lengths]).expand(3, 1, -1)


def read(core: LanguageCore, ids: Tensor, positions: Tensor, **named) -> CoreOutput:
    with torch.no_grad():
        return core(core.embed(ids), positions, **named)


def alone(core: LanguageCore, ids: Tensor) -> CoreOutput:
    return read(core, ids[None], text_positions([len(ids)]))


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    # Other shapes mean other sums; float32 states of size 1 move by some 1e-6.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=3e-5)


def assert_same_routing(some: CoreOutput, rows: Tensor, whole: CoreOutput) -> None:
    for ours, theirs in zip(some.routing, whole.routing, strict=True):
        assert torch.equal(ours.mask[rows], theirs.mask)


both = pytest.mark.parametrize("name", list(ALL))


@both
@given(lengths=st.lists(st.integers(1, 4), min_size=1, max_size=6))
@settings(max_examples=12)
def test_reading_in_pieces_with_a_cache_equals_reading_at_once(
    name: str, lengths: list[int]
) -> None:
    core, ids = CORES[name], tokens_of(sum(lengths))
    whole, cache = alone(core, ids), KVCache(3, max_length=64)
    pieces = [
        read(core, piece[None], places.expand(3, 1, -1), cache=cache)
        for piece, places in zip(
            ids.split(lengths), torch.arange(len(ids)).split(lengths), strict=True
        )
    ]
    assert_same(torch.cat([piece.hidden_states for piece in pieces], 1), whole.hidden_states)
    for layer, expected in enumerate(whole.routing):
        experts = torch.cat([piece.routing[layer].mask for piece in pieces])
        assert torch.equal(experts, expected.mask)


@both
@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=3), on_the_left=st.booleans())
@settings(max_examples=12)
def test_a_padded_batch_equals_its_rows_alone(
    name: str, lengths: list[int], on_the_left: bool
) -> None:
    core, width = CORES[name], max(lengths)
    ids, mask = tokens_of(len(lengths), width), torch.zeros(len(lengths), width).long()
    positions = torch.ones(3, len(lengths), width).long()
    for row, length in enumerate(lengths):
        real = slice(width - length, width) if on_the_left else slice(0, length)
        mask[row, real] = 1
        positions[:, row, real] = torch.arange(length)
    batch = read(core, ids, positions, attention_mask=mask)
    for row in range(len(lengths)):
        is_real = mask[row].bool()
        expected = alone(core, ids[row, is_real])
        assert_same(batch.hidden_states[row, is_real], expected.hidden_states[0])
        places = row * width + is_real.nonzero().flatten()
        assert_same_routing(batch, places, expected)


@both
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), padding=st.integers(0, 3))
@settings(max_examples=12)
def test_packed_samples_equal_the_samples_alone(
    name: str, lengths: list[int], padding: int
) -> None:
    core, total = CORES[name], sum(lengths) + padding
    ids = tokens_of(1, total)
    numbers = [number for number, length in enumerate(lengths, 1) for _ in range(length)]
    mask = torch.tensor([numbers + [0] * padding])
    packed = read(core, ids, text_positions([*lengths, padding]), attention_mask=mask)
    for number in range(1, len(lengths) + 1):
        of_sample = mask[0] == number
        expected = alone(core, ids[0, of_sample])
        assert_same(packed.hidden_states[0, of_sample], expected.hidden_states[0])
        assert_same_routing(packed, of_sample.nonzero().flatten(), expected)


@both
def test_decoding_a_left_padded_batch_equals_decoding_alone(name: str) -> None:
    core, ids = CORES[name], tokens_of(2, 9)
    mask = torch.ones(2, 9).long()
    mask[0, :3] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=1).expand(3, -1, -1).contiguous()
    positions[:, 0, 3], positions[:, 1, 0] = 0, 0
    cache = KVCache(3, max_length=9)
    steps = [
        read(
            core,
            ids[:, start:end],
            positions[..., start:end],
            attention_mask=mask[:, :end],
            cache=cache,
        ).hidden_states
        for start, end in [(0, 6), (6, 7), (7, 8), (8, 9)]
    ]
    batch = torch.cat(steps, 1)
    assert_same(batch[0, 3:], alone(core, ids[0, 3:]).hidden_states[0])
    assert_same(batch[1], alone(core, ids[1]).hidden_states[0])


@both
@given(seed=st.integers(0, 5))
@settings(max_examples=5)
def test_a_token_does_not_see_the_future(name: str, seed: int) -> None:
    core, ids = CORES[name], tokens_of(8 + seed)
    changed = ids.clone()
    changed[5:] = (changed[5:] + 7) % 50
    assert_same(alone(core, ids).hidden_states[:, :5], alone(core, changed).hidden_states[:, :5])


def dense_twin(theirs: torch.nn.Module, config: CoreConfig) -> LanguageCore:
    """Our dense core with the weights of a transformers decoder."""
    core, state = LanguageCore(config).eval(), theirs.state_dict()
    own = {
        "embed_tokens.weight": state["model.embed_tokens.weight"],
        "norm.weight": state["model.norm.weight"],
    }
    if not config.ties_embeddings:
        own["lm_head.weight"] = state["lm_head.weight"]
    for i in range(config.num_layers):
        old, new = f"model.layers.{i}.", f"layers.{i}."
        own[new + "input_norm.weight"] = state[old + "input_layernorm.weight"]
        own[new + "post_attention_norm.weight"] = state[old + "post_attention_layernorm.weight"]
        for kind in ("weight", "bias") if config.has_qkv_bias else ("weight",):
            own[new + f"attention.qkv_proj.{kind}"] = torch.cat(
                [state[old + f"self_attn.{part}_proj.{kind}"] for part in "qkv"]
            )
        own[new + "attention.o_proj.weight"] = state[old + "self_attn.o_proj.weight"]
        own[new + "ffn.gate_up_proj.weight"] = torch.cat(
            [state[old + f"mlp.{part}_proj.weight"] for part in ("gate", "up")]
        )
        own[new + "ffn.down_proj.weight"] = state[old + "mlp.down_proj.weight"]
    core.load_state_dict(own)
    return core


SIZES = {
    "vocab_size": 50,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "rms_norm_eps": 1e-6,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


@pytest.fixture
def qwen2() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 1e6}
    model = Qwen2ForCausalLM(Qwen2Config(**SIZES, rope_parameters=rope, tie_word_embeddings=False))
    torch.nn.init.normal_(model.model.layers[1].self_attn.q_proj.bias)
    return model.eval()


def logits_of(core: LanguageCore, ids: Tensor) -> Tensor:
    positions = torch.arange(ids.shape[1]).expand(3, len(ids), -1)
    return core.logits(read(core, ids, positions).hidden_states)


@torch.no_grad()
def test_a_dense_core_equals_qwen2(qwen2: Qwen2ForCausalLM) -> None:
    ids = tokens_of(2, 12)
    ours = logits_of(dense_twin(qwen2, DENSE), ids)
    torch.testing.assert_close(ours, qwen2(ids).logits, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_dense_core_in_bf16_is_as_near_to_float32_as_qwen2(qwen2: Qwen2ForCausalLM) -> None:
    ids, half = tokens_of(2, 12), qwen2.bfloat16()
    ours = logits_of(dense_twin(half, DENSE).bfloat16(), ids)
    theirs = half(ids).logits
    exact = half.float()(ids).logits
    # The two round in other places: 0.014 each on average, of logits up to 5.
    assert (ours - exact).abs().mean() < 1.2 * (theirs - exact).abs().mean()


def test_a_dense_core_without_biases_and_with_a_tied_head_equals_llama() -> None:
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 1e5}
    theirs = LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=rope, tie_word_embeddings=True))
    config = dataclasses.replace(DENSE, has_qkv_bias=False, ties_embeddings=True, rope_theta=1e5)
    core = dense_twin(theirs.eval(), config)
    ids = tokens_of(2, 12)
    with torch.no_grad():
        torch.testing.assert_close(logits_of(core, ids), theirs(ids).logits, rtol=0, atol=1e-5)


def test_the_routing_threshold_of_a_request_changes_what_a_token_costs() -> None:
    core, ids = CORES["paper"], tokens_of(1, 20)
    positions = text_positions([20])
    costs = [
        sum(int(r.num_selected.sum()) for r in read(core, ids, positions, top_p_routing=p).routing)
        for p in (0.2, 0.7, 1.0)
    ]
    assert costs[0] < costs[1] < costs[2]


def test_padding_takes_no_routed_expert() -> None:
    core, ids = CORES["paper"], tokens_of(1, 4)
    mask = torch.tensor([[1, 1, 0, 0]])
    output = read(core, ids, text_positions([4]), attention_mask=mask)
    assert not any(routing.mask[2:, :5].any() for routing in output.routing)


def test_parameters_have_the_names_that_checkpoints_use() -> None:
    names = {name for name, _ in CORES["dense"].named_parameters() if "layers.1" not in name}
    first = {name.removeprefix("layers.0.") for name in names if "layers.0." in name}
    assert first == {
        "input_norm.weight",
        "attention.qkv_proj.weight",
        "attention.qkv_proj.bias",
        "attention.o_proj.weight",
        "post_attention_norm.weight",
        "ffn.gate_up_proj.weight",
        "ffn.down_proj.weight",
    }
    assert {name for name in names if "layers" not in name} == {
        "embed_tokens.weight",
        "norm.weight",
        "lm_head.weight",
    }


def test_a_tied_head_is_no_parameter_of_its_own() -> None:
    core = LanguageCore(dataclasses.replace(DENSE, ties_embeddings=True))
    assert "lm_head.weight" not in core.state_dict()
    torch.testing.assert_close(core.logits(core.embed_tokens.weight[:2]).shape, (2, 50))


@both
def test_a_core_in_bf16_returns_bf16(name: str) -> None:
    core = LanguageCore(ALL[name]).bfloat16()
    hidden = read(core, tokens_of(1, 5), text_positions([5])).hidden_states
    assert hidden.dtype == torch.bfloat16
    assert hidden.isfinite().all()


@both
def test_every_parameter_of_a_core_learns(name: str) -> None:
    core = random_core(ALL[name]).train()
    ids = tokens_of(2, 40)
    hidden = core(core.embed(ids), torch.arange(40).expand(3, 2, -1)).hidden_states
    core.logits(hidden).square().mean().backward()
    assert all(parameter.grad.any() for parameter in core.parameters())
