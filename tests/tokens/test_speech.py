import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimoe.config import SpecialTokens
from unimoe.errors import RequestError
from unimoe.tokens.speech import SpeechTokens, split_speech

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "speech_split" / "speech_split.json").read_text()
)
SPECIAL = SpecialTokens(
    pad=151643,
    end_of_turn=151645,
    speech_start=GOLDEN["speech_start"],
    speech_prompt=GOLDEN["speech_prompt"],
    speech_end=GOLDEN["speech_end"],
)
TOKENS = SpeechTokens.of_qwen(SPECIAL)
START, PROMPT, END, STOP = TOKENS.speech_start, TOKENS.speech_prompt, TOKENS.speech_end, 13
WORD, DIGIT = 5000, 15


@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_released_chunks_are_reproduced(case):
    plan = split_speech(
        case["input_ids"],
        TOKENS,
        max_answer_tokens=case["maxtoklen"],
        max_chunk_tokens=case["maxcutlen"],
    )
    assert plan.cuts == case["split_positions"]
    assert [chunk.text_ids for chunk in plan.chunks] == case["chunks"]
    assert [chunk.voice_ids for chunk in plan.chunks] == case["prompt_ids"]


def test_fixtures_and_our_tables_name_the_same_tokens():
    assert len(GOLDEN["cases"]) == 31
    assert TOKENS.breaks == set(GOLDEN["split_token_ids"])
    assert TOKENS.digits == set(GOLDEN["digit_token_ids"])


def test_an_answer_without_speech_has_nothing_to_say():
    assert split_speech([WORD, STOP, SPECIAL.end_of_turn], TOKENS).chunks == []


def test_speech_that_never_ended_is_said_as_far_as_it_came():
    plan = split_speech([START, 7, PROMPT, WORD, WORD], TOKENS)
    assert plan.chunks == [([7], [WORD, WORD, STOP])]


def test_the_repeated_tail_of_a_second_span_is_dropped_too():
    ids = [START, 7, PROMPT, WORD, STOP, END, START, 8, PROMPT, 6000, *[WORD] * 30]
    plan = split_speech(ids, TOKENS, max_answer_tokens=len(ids))
    assert plan.chunks == [([7], [WORD, STOP]), ([8], [6000, WORD, STOP])]


spoken = st.lists(st.sampled_from([WORD, 6000, DIGIT, STOP, 11]), max_size=60)


@given(spoken)
def test_chunks_joined_are_the_text(text):
    plan = split_speech([START, 7, PROMPT, *text, END], TOKENS)
    cuts = [cut - 3 for cut in plan.cuts]
    edges = [0, *cuts, len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges) if a < b]
    said = [chunk.text_ids for chunk in plan.chunks]
    assert said == [p if p[-1] in TOKENS.breaks else [*p, STOP] for p in pieces]


@given(spoken)
def test_no_cut_comes_before_a_digit(text):
    ids = [START, 7, PROMPT, *text, END]
    assert all(ids[cut] != DIGIT for cut in split_speech(ids, TOKENS).cuts)


def test_a_checkpoint_without_speech_tokens_cannot_be_split():
    with pytest.raises(RequestError, match="speech_start is None"):
        SpeechTokens.of_qwen(SpecialTokens(pad=0, end_of_turn=1))
