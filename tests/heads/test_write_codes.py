import dataclasses
import logging

import pytest
import torch

from tests.heads.made_talkers import TINY, tiny_talker
from unimoe.errors import RequestError
from unimoe.heads.moe_tts import MoETTS
from unimoe.heads.released_speech import collate_speech_released, write_codes_released
from unimoe.heads.speech_rows import Control, SpeechExample, collate_speech
from unimoe.heads.write_codes import write_codes
from unimoe.nn.cache import KVCache

SAY = SpeechExample(voice_ids=[7, 3], text_ids=[8, 9, 2, 1], context_codes=[3, 4])
END = Control.CODES_END.code(TINY)


def cache() -> KVCache:
    return KVCache(TINY.num_layers, max_length=256)


def endless_talker() -> MoETTS:
    """It never ends, and would rather write any control code than a code."""
    talker = tiny_talker()
    talker.head.bias.data[TINY.num_codes :] = 50.0
    talker.head.bias.data[END] = -50.0
    return talker


def test_codes_are_those_that_running_everything_again_would_give() -> None:
    talker = endless_talker()
    steps = list(write_codes(talker, SAY, cache(), max_codes=20))
    written = dataclasses.replace(SAY, codes=[step.code for step in steps])
    batch = collate_speech([written], TINY)
    with torch.no_grad():
        states = talker(talker.embed(batch.ids, batch.is_text), batch.visible)[0]
        logits = talker.head(states[-21:-1])
    torch.testing.assert_close(
        torch.stack([step.logits for step in steps]), logits, rtol=0, atol=1e-5
    )
    assert [step.code for step in steps] == logits[:, : TINY.num_codes].argmax(-1).tolist()


def test_a_code_costs_one_row_at_any_length() -> None:
    talker, rows = endless_talker(), []
    talker.layers[-1].moe.register_forward_hook(
        lambda _, inputs, __: rows.append(inputs[0].shape[1])
    )
    list(write_codes(talker, SAY, cache(), max_codes=150))
    assert rows == [len(collate_speech([SAY], TINY).ids[0])] + [1] * 149


def test_of_the_controls_only_the_end_is_written() -> None:
    codes = [step.code for step in write_codes(endless_talker(), SAY, cache(), max_codes=20)]
    assert len(codes) == 20
    assert max(codes) < TINY.num_codes


def test_the_end_is_the_last_step() -> None:
    talker = tiny_talker()
    talker.head.bias.data[END] = 50.0
    assert [step.code for step in write_codes(talker, SAY, cache())] == [END]


def test_codes_come_one_at_a_time() -> None:
    talker, store = endless_talker(), cache()
    steps = write_codes(talker, SAY, store)
    next(steps)
    length = store.length
    next(steps)
    assert (length, store.length) == (15, 16)


def test_writing_goes_on_behind_codes_that_are_there() -> None:
    talker = endless_talker()
    codes = [step.code for step in write_codes(talker, SAY, cache(), max_codes=8)]
    begun = dataclasses.replace(SAY, codes=codes[:3])
    assert [step.code for step in write_codes(talker, begun, cache(), max_codes=5)] == codes[3:]


def test_speech_that_is_cut_off_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        list(write_codes(endless_talker(), SAY, cache(), max_codes=2))
    assert "cut off after 2 codes" in caplog.text


def test_a_used_cache_is_refused() -> None:
    store = cache()
    next(write_codes(endless_talker(), SAY, store))
    with pytest.raises(RequestError, match="the cache holds 15 rows"):
        next(write_codes(endless_talker(), SAY, store))


def test_the_released_way_writes_controls_too_and_lets_the_prompt_see_the_codes() -> None:
    talker = endless_talker()
    released = list(write_codes_released(talker, SAY, max_codes=2))
    ours = list(write_codes(talker, SAY, cache(), max_codes=2))
    assert released[0].code >= TINY.num_codes
    # At its first step the prompt sees CODES_START already.
    assert not torch.allclose(released[0].logits, ours[0].logits, atol=1e-4)


def test_a_released_batch_hides_the_end_of_a_shorter_text() -> None:
    long = SpeechExample(voice_ids=[1], text_ids=[8, 9, 2], codes=[1])
    short = SpeechExample(voice_ids=[1], text_ids=[8], codes=[1])
    batch = collate_speech_released([long, short], TINY)
    start, pad, end = 12, 0, 20
    assert batch.ids[1, 3:8].tolist() == [start, 8, pad, pad, end]
    assert batch.visible[1, 3].tolist() == [True] * 6 + [False] * 4
    assert batch.is_text[1, 4:7].all()


def test_a_released_batch_has_contexts_everywhere_or_nowhere() -> None:
    without = dataclasses.replace(SAY, context_codes=None)
    with pytest.raises(RequestError, match="give \\(\\) for an empty context"):
        collate_speech_released([SAY, without], TINY)
