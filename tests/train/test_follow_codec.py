import copy

import pytest
import torch
from heads.made_speakers import SMALL_TALKER
from torch import Tensor

from unimoe.heads.timed_talker import TimedTalker
from unimoe.train.follow_codec import follow_codec

NUM_CODES = SMALL_TALKER.talker.num_codes
HEARD = torch.arange(NUM_CODES).repeat(500)
"""Codes of the former codec, all as often."""


@pytest.fixture
def talker() -> TimedTalker:
    torch.manual_seed(0)
    return TimedTalker(SMALL_TALKER)


def scores(talker: TimedTalker, codes: Tensor) -> Tensor:
    """Log chances of the codes to come, after each of some."""
    states = talker.talker.code_embedding(codes)
    found: Tensor = talker.talker.head(states)[:, :NUM_CODES].log_softmax(-1)
    return found


def test_what_another_codec_calls_otherwise_is_written_so(talker: TimedTalker) -> None:
    renamed = torch.randperm(NUM_CODES, generator=torch.Generator().manual_seed(0))
    before = copy.deepcopy(talker)

    follow_codec(talker.talker, HEARD, renamed[HEARD])

    codes = torch.arange(NUM_CODES)
    found = scores(talker, renamed[codes])[:, renamed]
    torch.testing.assert_close(found, scores(before, codes), rtol=0, atol=0.05)
    assert not torch.allclose(scores(before, renamed[codes])[:, renamed], found, atol=0.05)


def test_two_codes_that_became_one_are_as_likely_as_both(talker: TimedTalker) -> None:
    head = talker.talker.head
    with torch.no_grad():
        head.weight[1] = head.weight[0]
        head.bias[1] = head.bias[0]
    codes = torch.arange(2, NUM_CODES)
    before = scores(talker, codes)[:, :2].exp().sum(-1)

    follow_codec(talker.talker, HEARD, HEARD.where(HEARD != 1, 0))

    torch.testing.assert_close(scores(talker, codes)[:, 0].exp(), before, rtol=0.02, atol=0)


def test_a_code_that_is_never_heard_and_control_codes_stay(talker: TimedTalker) -> None:
    before = copy.deepcopy(talker.talker)
    is_heard = HEARD != 3

    follow_codec(talker.talker, HEARD[is_heard], (HEARD[is_heard] + 1) % 3)

    for name in ("code_embedding.weight", "head.weight", "head.bias"):
        found, was = talker.talker.get_parameter(name), before.get_parameter(name)
        assert found[3].equal(was[3])
        assert found[NUM_CODES:].equal(was[NUM_CODES:])
