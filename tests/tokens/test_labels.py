import json
from pathlib import Path

import pytest
import torch

from unimoe.config import SpecialTokens
from unimoe.tokens.labels import assistant_labels, released_labels

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "labels" / "labels.json").read_text())[
    "cases"
]
TURN_START, TURN_END, NEWLINE, SYSTEM, USER, ASSISTANT = 151644, 151645, 198, 8948, 872, 77091
IGNORED = -100


def labels_of(ids: list[int]) -> list[int]:
    tensor = torch.tensor(ids, dtype=torch.int64)
    return released_labels(tensor, turn_start=TURN_START, assistant=ASSISTANT).tolist()


@pytest.mark.parametrize("case", [case for case in GOLDEN if "labels" in case])
def test_released_labels_are_reproduced(case):
    assert labels_of(case["input_ids"]) == case["labels"]


def test_fixtures_hold_chats_the_release_fails_on():
    assert [len(GOLDEN), sum("raises" in case for case in GOLDEN)] == [10, 2]


def test_without_a_system_turn_the_assistant_is_told_by_its_role():
    ids = [TURN_START, USER, NEWLINE, 1, TURN_END, NEWLINE]
    ids += [TURN_START, ASSISTANT, NEWLINE, 2, 3, TURN_END, NEWLINE]
    assert labels_of(ids) == [IGNORED] * 9 + [2, 3, TURN_END, NEWLINE]


def test_a_chat_that_ends_on_the_user_trains_its_answers_and_the_very_last_token():
    ids = [TURN_START, SYSTEM, NEWLINE, 1, TURN_END, NEWLINE]
    ids += [TURN_START, USER, NEWLINE, 2, TURN_END, NEWLINE]
    ids += [TURN_START, ASSISTANT, NEWLINE, 3, TURN_END, NEWLINE]
    ids += [TURN_START, USER, NEWLINE, 4, TURN_END, NEWLINE]
    expected = [IGNORED] * 15 + [3, TURN_END, NEWLINE] + [IGNORED] * 5 + [NEWLINE]
    assert labels_of(ids) == expected


def test_an_odd_number_of_turns_is_counted_whatever_the_roles_say():
    turn = [TURN_START, USER, NEWLINE, 5, TURN_END]
    assert labels_of(turn * 3) == [IGNORED] * 13 + [5, TURN_END]


@pytest.mark.parametrize("case", [case for case in GOLDEN if "raises" in case])
def test_labels_exist_where_the_release_fails(case):
    ids, labels = case["input_ids"], labels_of(case["input_ids"])
    assert all(label in (token, IGNORED) for token, label in zip(ids, labels, strict=True))
    assert labels[-1] == ids[-1]
    assert sum(label == TURN_END for label in labels) == ids.count(ASSISTANT)


def test_no_tokens_have_no_labels():
    assert labels_of([]) == []


def test_our_rule_trains_words_and_end_token_and_never_media():
    special = SpecialTokens(
        pad=0, end_of_turn=TURN_END, vision_start=11, vision_end=12, image_pad=13
    )
    ids = torch.tensor([TURN_START, ASSISTANT, NEWLINE, 7, 11, 13, 13, 12, 8, TURN_END, NEWLINE])
    is_answer = torch.tensor([False] * 3 + [True] * 7 + [False])
    labels = assistant_labels(ids, is_answer, special_tokens=special)
    assert labels.tolist() == [
        *[IGNORED] * 3,
        7,
        *[IGNORED] * 4,
        8,
        TURN_END,
        IGNORED,
    ]
