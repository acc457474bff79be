import random
from itertools import islice

import pytest

from unimoe.data.build.drawings import read_concepts
from unimoe.data.build.facts import (
    Sum,
    comparisons,
    draw_sum,
    kinds,
    opposites,
    orders,
    stories,
    sums,
)


@pytest.mark.parametrize(
    ("asked", "result"),
    [(Sum(7, "+", 5), 12), (Sum(7, "-", 5), 2), (Sum(7, "*", 5), 35), (Sum(35, "/", 5), 7)],
)
def test_sums_work_out(asked, result):
    assert asked.result == result


@pytest.mark.parametrize("sign", "+-*/")
def test_drawn_sums_stay_whole_and_not_below_zero(sign):
    drawn = [draw_sum(random.Random(seed), sign, 40) for seed in range(100)]

    assert all(each.result >= 0 for each in drawn)
    assert all(each.left % each.right == 0 for each in drawn if sign == "/")


def test_spoken_sums_have_no_digits_in_the_question():
    asked = list(islice(sums(random.Random(0), is_spoken=True), 50))

    assert not any(character.isdigit() for each in asked for character in each.question)
    assert all(each.accepted[0].isdigit() for each in asked)


def test_answers_of_stories_calculate_to_what_is_accepted():
    for each in islice(stories(random.Random(0)), 200):
        calculation, _, result = each.answer.rstrip(".").partition(" = ")
        left, sign, right = calculation.split()
        assert result == each.accepted[0] == str(Sum(int(left), sign, int(right)).result)


def test_comparisons_name_the_right_number():
    for each in islice(comparisons(random.Random(0), is_spoken=False), 100):
        numbers = [int(word.strip(",?")) for word in each.question.split() if word[0].isdigit()]
        wanted = max(numbers) if "bigger" in each.question else min(numbers)
        assert each.accepted == (str(wanted),)


def test_orders_go_round():
    answers = {each.question: each.accepted[0] for each in orders()}

    assert answers["Which day comes after Sunday?"] == "Monday"
    assert answers["Which month comes before January?"] == "December"
    assert answers["Which letter comes after Y?"] == "Z"
    assert answers["Which number comes before ninety-nine?"] == "98"


def test_opposites_hold_both_ways_and_accept_all():
    asked = {
        each.question: each.accepted for each in opposites([("big", "little"), ("big", "small")])
    }

    assert asked["What is the opposite of big?"] == ("little", "small")
    assert asked["What is the opposite of small?"] == ("big",)


def test_kinds_are_those_of_the_concepts():
    concepts = [each for each in read_concepts() if each.category == "animal"][:5]

    for each in kinds(concepts, random.Random(0)):
        if " or " in each.question:
            assert each.accepted == ("an animal",)
