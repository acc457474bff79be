import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.heads.made_talkers import TINY, tiny_talker
from unimoe.heads import top2
from unimoe.heads.moe_tts import MoETTS
from unimoe.heads.released_speech import collate_speech_released
from unimoe.heads.speech_rows import IGNORED, SpeechBatch, SpeechExample, collate_speech
from unimoe.heads.top2 import route_top2
from unimoe.nn.cache import KVCache

LONG = SpeechExample(
    voice_ids=[7, 3], text_ids=[8, 9, 2, 1], context_codes=[3, 4], codes=[1, 2, 5, 5, 0]
)
SHORT = SpeechExample(voice_ids=[4], text_ids=[5, 6], codes=[4, 11])


def states_of(talker: MoETTS, batch: SpeechBatch) -> Tensor:
    return talker(talker.embed(batch.ids, batch.is_text), batch.visible, is_real=batch.is_real)


@torch.no_grad()
def test_a_row_of_a_batch_equals_itself_alone() -> None:
    talker = tiny_talker()
    together = collate_speech([LONG, SHORT], TINY)
    alone = collate_speech([SHORT], TINY)
    length = alone.ids.shape[1]
    torch.testing.assert_close(
        states_of(talker, together)[1, :length], states_of(talker, alone)[0], rtol=0, atol=1e-5
    )


@torch.no_grad()
def test_padding_takes_no_place_of_an_expert() -> None:
    talker = tiny_talker(dataclasses.replace(TINY, capacity_factor=0.5, min_capacity=1))
    batch = collate_speech([LONG], TINY)
    padded = SpeechBatch(
        ids=functional.pad(batch.ids, (0, 9), value=15),
        is_text=functional.pad(batch.is_text, (0, 9)),
        visible=functional.pad(batch.visible, (0, 9, 0, 9)),
        is_real=functional.pad(batch.is_real, (0, 9)),
        targets=functional.pad(batch.targets, (0, 9), value=IGNORED),
    )
    torch.testing.assert_close(talker.loss(padded), talker.loss(batch), rtol=0, atol=1e-6)


@torch.no_grad()
def test_without_padding_ours_and_the_released_batch_are_one() -> None:
    talker = tiny_talker()
    ours, released = collate_speech([LONG], TINY), collate_speech_released([LONG], TINY)
    assert torch.equal(ours.ids, released.ids)
    torch.testing.assert_close(talker.loss(ours), talker.loss(released), rtol=0, atol=1e-6)


@torch.no_grad()
def test_states_do_not_depend_on_later_codes() -> None:
    talker = tiny_talker()
    changed = dataclasses.replace(LONG, codes=[*LONG.codes[:-1], 9])
    before = states_of(talker, collate_speech([LONG], TINY))
    after = states_of(talker, collate_speech([changed], TINY))
    torch.testing.assert_close(before[:, :-1], after[:, :-1], rtol=0, atol=1e-6)
    assert not torch.allclose(before[:, -1], after[:, -1], atol=1e-3)


@torch.no_grad()
def test_early_rows_of_the_prompt_see_its_last_ones() -> None:
    talker = tiny_talker()
    changed = dataclasses.replace(LONG, text_ids=[8, 9, 2, 19])
    before = states_of(talker, collate_speech([LONG], TINY))
    after = states_of(talker, collate_speech([changed], TINY))
    assert not torch.allclose(before[:, 0], after[:, 0], atol=1e-4)


@torch.no_grad()
def test_rows_fed_one_by_one_with_a_cache_equal_all_at_once() -> None:
    talker = tiny_talker()
    batch = collate_speech([LONG], TINY)
    embeddings = talker.embed(batch.ids, batch.is_text)
    whole = talker(embeddings, batch.visible)
    cache = KVCache(TINY.num_layers, max_length=64)
    first = embeddings.shape[1] - len(LONG.codes)
    parts = [talker(embeddings[:, :first], batch.visible[:, :first, :first], cache=cache)]
    for row in range(first, embeddings.shape[1]):
        parts.append(talker(embeddings[:, row : row + 1], None, cache=cache))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-5)


@torch.no_grad()
def test_with_a_cache_nothing_is_dropped() -> None:
    tight = dataclasses.replace(TINY, capacity_factor=0.25, min_capacity=1)
    batch = collate_speech([LONG], TINY)

    def states(config, cache: KVCache | None) -> Tensor:
        talker = tiny_talker(config)
        return talker(talker.embed(batch.ids, batch.is_text), batch.visible, cache=cache)

    kept = states(tight, KVCache(TINY.num_layers, max_length=64))
    torch.testing.assert_close(kept, states(TINY, None), rtol=0, atol=0)
    assert not torch.allclose(states(tight, None), kept, atol=1e-3)


@torch.no_grad()
def test_a_row_that_sees_nothing_gets_the_mean_of_all() -> None:
    attention = tiny_talker().layers[0].attention
    captured: list[Tensor] = []
    attention.o_proj.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    talker = tiny_talker()
    talker.layers[0].attention = attention
    hidden = torch.randn(1, 5, TINY.hidden_size)
    blind = torch.ones(1, 5, 5, dtype=torch.bool)
    blind[:, 2] = False
    talker(hidden, blind)
    width = TINY.num_kv_heads * TINY.head_dim
    values = attention.qkv_proj(talker.layers[0].input_norm(hidden))[0, :, -width:]
    mean = values.mean(0).view(TINY.num_kv_heads, 1, -1).expand(-1, 2, -1).flatten()
    torch.testing.assert_close(captured[0][0, 2], mean, rtol=0, atol=1e-6)


def test_every_parameter_learns() -> None:
    talker = tiny_talker()
    talker.loss(collate_speech([LONG, SHORT], TINY)).backward()
    for name, parameter in talker.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_loss_is_the_cross_entropy_of_codes_and_ends() -> None:
    talker = tiny_talker()
    batch = collate_speech([LONG, SHORT], TINY)
    with torch.no_grad():
        likely = talker.head(states_of(talker, batch)).log_softmax(-1)
        total, count = torch.tensor(0.0), 0
        for row, position in (batch.targets != IGNORED).nonzero().tolist():
            total -= likely[row, position, batch.targets[row, position]]
            count += 1
        assert count == len(LONG.codes) + len(SHORT.codes) + 2
        torch.testing.assert_close(talker.loss(batch), total / count)


def test_the_second_expert_is_drawn_in_training_only_and_only_if_asked_for() -> None:
    drawn = tiny_talker(dataclasses.replace(TINY, samples_second_expert=True))
    batch = collate_speech([LONG], TINY)
    with torch.no_grad():
        quiet = states_of(tiny_talker().train(), batch)
        assert torch.equal(states_of(drawn, batch), quiet)
        torch.manual_seed(1)
        noisy = states_of(drawn.train(), batch)
        torch.manual_seed(1)
        assert torch.equal(states_of(drawn, batch), noisy)
    assert not torch.allclose(noisy, quiet, atol=1e-3)


def test_mixed_precision_decides_in_float32_and_learns() -> None:
    talker, batch = tiny_talker(), collate_speech([LONG, SHORT], TINY)
    dtypes: list[torch.dtype] = []

    def watched(*args, **options):
        dtypes.append(args[0].dtype)
        return route_top2(*args, **options)

    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16):
        patch.setattr(top2, "route_top2", watched)
        loss = talker.loss(batch)
    loss.backward()
    assert dtypes == [torch.float32] * TINY.num_layers
    torch.testing.assert_close(loss, talker.loss(batch), rtol=2**-6, atol=0)
    assert talker.layers[0].moe.gate_up.grad.abs().max() > 0


@torch.no_grad()
def test_half_precision_stays_near() -> None:
    talker, batch = tiny_talker(), collate_speech([LONG, SHORT], TINY)
    exact = talker.loss(batch)
    # bf16 has 8 bits: three products and two layers deep a relative error of 2^-6 is much
    torch.testing.assert_close(talker.bfloat16().loss(batch), exact, rtol=2**-6, atol=0)
