"""Routers that are aimed know whose a token is, and where nothing happens to it."""

import dataclasses

import torch

from tests.train.made_samples import CONFIG, Source, text
from unimoe.config import MoEConfig, RouterConfig
from unimoe.model.omni import OmniModel
from unimoe.model.specialists import mixtures, with_deltas
from unimoe.recipes import mini_routing
from unimoe.recipes.mini_routing import Teaching, _seen, aim_at_modalities

NULL = RouterConfig().num_routed


def dense_model(embedding_scale: float = 1.0) -> OmniModel:
    core = dataclasses.replace(CONFIG.core, moe=None)
    torch.manual_seed(3)
    model = OmniModel(dataclasses.replace(CONFIG, core=core, vision=None)).eval()
    for parameter in model.core.parameters():
        if parameter.dim() >= 2:
            torch.nn.init.normal_(parameter, 0.0, parameter.shape[-1] ** -0.5)
    model.core.embed_tokens.weight.data *= embedding_scale
    return model


def low() -> Source:
    return Source(text(*range(20, 30)) for _ in range(4))


def high() -> Source:
    return Source(text(*range(60, 70)) for _ in range(4))


def aimed() -> tuple[OmniModel, OmniModel]:
    dense = dense_model()
    moe = MoEConfig(
        router=RouterConfig(),
        routed_width=dense.config.core.ffn_width,
        shared_width=16,
        delta_rank=2,
    )
    mixture = with_deltas(dense, moe)
    aim_at_modalities(mixture, {0: Teaching(dense, [low()]), 3: Teaching(dense, [high()])})
    return dense, mixture


def test_tokens_go_to_the_expert_they_were_taught_by() -> None:
    dense, mixture = aimed()
    for expert, source in ((0, low()), (3, high())):
        seen = _seen(dense, source, 6)
        for layer, block in mixtures(mixture):
            logits = block.router(seen[layer].states)[:, : NULL + 1]
            rival = 3 - expert
            assert (logits[:, expert] > logits[:, rival]).float().mean() > 0.9


def test_where_a_block_changes_least_null_is_wanted_most() -> None:
    dense, mixture = aimed()
    nulls, changes = [], []
    for source in (low(), high()):
        seen = _seen(dense, source, 6)
        for layer, block in mixtures(mixture):
            nulls.append(block.router(seen[layer].states)[:, : NULL + 1].argmax(-1) == NULL)
            changes.append(seen[layer].change)
    null, change = torch.cat(nulls), torch.cat(changes)
    assert 0.02 < null.float().mean() < 0.2
    assert change[null].mean() < change[~null].mean()


def test_change_is_what_a_block_adds_as_a_share_of_where_a_token_stands() -> None:
    near, far = dense_model(), dense_model(embedding_scale=100.0)
    assert (_seen(far, low(), 6)[0].change < 0.2 * _seen(near, low(), 6)[0].change).all()


def test_an_expert_of_one_source_is_known_by_as_many_tokens_as_one_of_four(monkeypatch) -> None:
    dense = dense_model()
    moe = MoEConfig(
        router=RouterConfig(),
        routed_width=dense.config.core.ffn_width,
        shared_width=16,
        delta_rank=2,
    )
    asked: list[tuple[int, int]] = []

    def counted(model: OmniModel, source: Source, num_rows: int):
        asked.append((id(source), num_rows))
        return _seen(model, source, num_rows)

    monkeypatch.setattr(mini_routing, "_seen", counted)
    many, one = [low() for _ in range(4)], [high()]
    aim_at_modalities(
        with_deltas(dense, moe),
        {0: Teaching(dense, many), 3: Teaching(dense, one)},
        rows_per_expert=8,
    )
    rows = dict(asked)
    assert sum(rows[id(source)] for source in many) == rows[id(one[0])] == 8
