"""Upcycling: what is copied where, and how near the result stays to the dense model."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from unimoe.config import CoreConfig, MoEConfig, OmniConfig, RouterConfig, SpecialTokens
from unimoe.errors import ConfigError
from unimoe.model.omni import OmniModel
from unimoe.model.upcycle import distance, upcycle

CORE = CoreConfig(
    vocab_size=50,
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    ffn_width=48,
    rope_sections=(2, 1, 1),
)
CONFIG = OmniConfig(core=CORE, special_tokens=SpecialTokens(pad=0, end_of_turn=1))
FULL = MoEConfig(routed_width=48, shared_width=6)
IDS = torch.randint(0, 50, (3, 40), generator=torch.Generator().manual_seed(5))


def dense_with(seed: int, config: OmniConfig = CONFIG) -> OmniModel:
    """Random, with weights so large that every layer matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = OmniModel(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() > 1:
                    scale = 1.0 if "embed" in name else parameter.shape[1] ** -0.5
                    parameter.normal_(0.0, 1.5 * scale)
    return model


@pytest.fixture(scope="module")
def dense() -> OmniModel:
    return dense_with(0)


def test_a_full_width_expert_is_the_dense_block(dense: OmniModel) -> None:
    ffn = upcycle(dense, FULL, preserve=False).core.layers[1].ffn
    block = dense.core.layers[1].ffn
    for expert in range(4):
        assert torch.equal(ffn.routed_gate_up[expert], block.gate_up_proj.weight)
        assert torch.equal(ffn.routed_down[expert], block.down_proj.weight)


def test_narrower_experts_are_consecutive_slices_that_start_over(dense: OmniModel) -> None:
    moe = MoEConfig(routed_width=16, shared_width=6)
    ffn = upcycle(dense, moe, preserve=False).core.layers[0].ffn
    gate_up = dense.core.layers[0].ffn.gate_up_proj.weight
    down = dense.core.layers[0].ffn.down_proj.weight
    for expert, start in enumerate((0, 16, 32, 0)):
        rows = torch.cat([gate_up[start : start + 16], gate_up[48 + start : 64 + start]])
        assert torch.equal(ffn.routed_gate_up[expert], rows)
        assert torch.equal(ffn.routed_down[expert], down[:, start : start + 16])


@pytest.mark.parametrize("preserve", [False, True])
def test_shared_experts_are_the_first_slice(dense: OmniModel, preserve: bool) -> None:
    ffn = upcycle(dense, FULL, preserve=preserve).core.layers[0].ffn
    block = dense.core.layers[0].ffn
    for expert in range(2):
        assert torch.equal(ffn.shared_gate_up[expert, :6], block.gate_up_proj.weight[:6])
        assert torch.equal(ffn.shared_gate_up[expert, 6:], block.gate_up_proj.weight[48:54])
        assert torch.equal(ffn.shared_down[expert], block.down_proj.weight[:, :6])


def test_all_but_the_feed_forward_blocks_is_copied(dense: OmniModel) -> None:
    model = upcycle(dense, FULL)
    before, after = dict(dense.named_parameters()), dict(model.named_parameters())
    kept = [name for name in before if ".ffn." not in name]
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert all(before[name].data_ptr() != after[name].data_ptr() for name in kept)
    assert model.config == replace(CONFIG, core=replace(CORE, moe=FULL))


def test_each_expert_copies_its_own_source(dense: OmniModel) -> None:
    sources = {1: dense_with(1), 3: dense_with(3)}
    ffn = upcycle(dense, FULL, sources=sources, preserve=False).core.layers[1].ffn
    for expert, source in enumerate((dense, sources[1], dense, sources[3])):
        weight = source.core.layers[1].ffn.gate_up_proj.weight
        assert torch.equal(ffn.routed_gate_up[expert], weight)


def test_the_seed_decides_the_router_and_nothing_else(dense: OmniModel) -> None:
    first, same, other = (
        dict(upcycle(dense, FULL, preserve=False, seed=seed).named_parameters())
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    changed = {name for name in first if not torch.equal(first[name], other[name])}
    assert changed == {name for name in first if ".router." in name}


def test_a_plain_router_is_normal_with_the_released_deviation(dense: OmniModel) -> None:
    config = replace(CONFIG, core=replace(CORE, num_layers=40))
    layers = upcycle(dense_with(0, config), FULL, preserve=False).core.layers
    weights = torch.stack([layer.ffn.router.weight for layer in layers]).detach()
    assert float(weights.std()) == pytest.approx(0.02, rel=0.05)
    assert float(weights.mean()) == pytest.approx(0.0, abs=1e-3)


def test_null_experts_of_a_preserving_router_are_never_first_nor_last(dense: OmniModel) -> None:
    router = upcycle(dense, FULL).core.layers[0].ffn.router
    with torch.no_grad():
        dynamic = router(torch.randn(500, 32))[:, :5]
    order = dynamic.argsort(-1, descending=True)
    null = 4
    assert null not in order[:, 0]
    assert null not in order[:, -1]


@pytest.mark.parametrize("rule", ["paper", "released"])
@pytest.mark.parametrize("counts", [(4, 1, 2), (4, 0, 2), (4, 1, 0), (8, 2, 1), (2, 0, 0)])
def test_preserving_keeps_the_dense_function(
    dense: OmniModel, rule: str, counts: tuple[int, int, int]
) -> None:
    routed, null, shared = counts
    router = RouterConfig(num_routed=routed, num_null=null, num_shared=shared, rule=rule)
    moe = MoEConfig(router=router, routed_width=48, shared_width=6)
    near = distance(dense, upcycle(dense, moe), IDS)
    far = distance(dense, upcycle(dense, moe, preserve=False), IDS)
    assert near.mean_kl_nats < 0.02
    assert near.top1_agreement > 0.9
    assert far.mean_kl_nats > 5 * near.mean_kl_nats or shared == null == 0


def test_experts_of_a_preserving_router_all_get_tokens_and_gradient(dense: OmniModel) -> None:
    model = upcycle(dense, FULL).train()
    output = model(IDS, labels=IDS)
    assert output.loss is not None
    output.loss.total.backward()
    ffn = model.core.layers[0].ffn
    gradients = ffn.routed_down.grad.flatten(1).norm(dim=1)
    assert bool((gradients > 0).all())
    assert not torch.allclose(gradients, gradients[:1].expand(4), rtol=1e-3)
    assert float(ffn.router.weight.grad.norm()) > 0
    assert float(ffn.shared_gate_up.grad.norm()) > 0


def test_a_model_is_at_no_distance_from_itself(dense: OmniModel) -> None:
    same = distance(dense, dense, IDS)
    assert same.num_tokens == 120
    assert (same.mean_kl_nats, same.top1_agreement, same.max_abs_logit) == (0.0, 1.0, 0.0)
    assert same.perplexity_ratio == 1.0


def test_distance_is_what_the_definitions_say(dense: OmniModel) -> None:
    other = dense_with(9)
    found = distance(dense, other, IDS)
    with torch.no_grad():
        p, q = dense(IDS).logits, other(IDS).logits
    kl = functional.kl_div(q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="sum")
    assert found.mean_kl_nats == pytest.approx(float(kl) / 120, rel=1e-4)
    of_p, of_q = (
        functional.cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())
        for logits in (p, q)
    )
    assert found.perplexity_ratio == pytest.approx(float((of_q - of_p).exp()), rel=1e-4)
    assert found.max_abs_logit == pytest.approx(float((p - q).abs().max()))


@pytest.mark.parametrize(
    ("moe", "message"),
    [
        (MoEConfig(routed_width=20, shared_width=6), r"routed_width 20 .* dense width of 48"),
        (MoEConfig(routed_width=48, shared_width=49), r"shared_width 49"),
        (MoEConfig(routed_width=96, shared_width=6), r"routed_width 96"),
    ],
)
def test_widths_must_fit_the_dense_one(dense: OmniModel, moe: MoEConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        upcycle(dense, moe)


def test_sources_must_name_an_expert_and_have_its_shape(dense: OmniModel) -> None:
    with pytest.raises(ConfigError, match=r"a source for expert 4; there are 4"):
        upcycle(dense, FULL, sources={4: dense})
    wider = dense_with(1, replace(CONFIG, core=replace(CORE, ffn_width=96)))
    with pytest.raises(ConfigError, match=r"source of expert 0 .*96\); need \(2, 32, 48\)"):
        upcycle(dense, FULL, sources={0: wider})


def test_a_layer_that_stays_dense_is_copied_beside_layers_with_experts(dense: OmniModel) -> None:
    source = dense_with(1)
    mixed = upcycle(dense, FULL, sources={1: source}, dense_layers=(0,), preserve=False)
    kept, block = mixed.core.layers[0].ffn, dense.core.layers[0].ffn
    assert torch.equal(kept.gate_up_proj.weight, block.gate_up_proj.weight)
    assert torch.equal(kept.down_proj.weight, block.down_proj.weight)
    assert kept.down_proj.weight.data_ptr() != block.down_proj.weight.data_ptr()
    experts = mixed.core.layers[1].ffn
    for expert, model in enumerate((dense, source, dense, dense)):
        weight = model.core.layers[1].ffn.gate_up_proj.weight
        assert torch.equal(experts.routed_gate_up[expert], weight)
    assert mixed.config.core.dense_layers == (0,)


def test_a_layer_that_is_not_there_cannot_stay_dense(dense: OmniModel) -> None:
    with pytest.raises(ConfigError, match=r"dense_layers \(2,\) names layers of 0 to 1"):
        upcycle(dense, FULL, dense_layers=(2,))


def test_a_model_with_experts_is_not_upcycled_again(dense: OmniModel) -> None:
    with pytest.raises(ConfigError, match=r"has experts already"):
        upcycle(upcycle(dense, FULL), FULL)


@settings(max_examples=15)
@given(
    routed=st.integers(1, 5),
    null=st.integers(0, 2),
    shared=st.integers(0, 2),
    width=st.sampled_from([12, 24, 48]),
    preserve=st.booleans(),
)
def test_any_counts_give_a_model_of_finite_logits(
    dense: OmniModel, routed: int, null: int, shared: int, width: int, preserve: bool
) -> None:
    router = RouterConfig(num_routed=routed, num_null=null, num_shared=shared)
    moe = MoEConfig(router=router, routed_width=width, shared_width=6)
    model = upcycle(dense, moe, preserve=preserve)
    with torch.no_grad():
        assert bool(model(IDS[:1, :8]).logits.isfinite().all())
