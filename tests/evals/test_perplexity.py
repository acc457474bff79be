"""Perplexity: known for a model that knows nothing, independent of the company of a text."""

import pytest
import torch

from unimoe.checkpoint.weights import load_model
from unimoe.errors import DataError
from unimoe.evals.perplexity import TextScores, perplexity_ratio, score_texts

TEXTS = [[5, 9, 200, 7], [11, 12], [3, 1, 4, 1, 5, 9, 2, 6]]


@pytest.fixture(scope="module")
def model(tiny_directory):
    return load_model(tiny_directory)


def test_a_model_that_knows_nothing_is_as_perplexed_as_the_vocabulary_is_large(tiny_directory):
    model = load_model(tiny_directory)
    with torch.no_grad():
        model.core.norm.weight.zero_()
    scores = score_texts(model, TEXTS)
    assert scores.perplexity == pytest.approx(model.config.core.vocab_size, rel=1e-4)
    assert scores.num_tokens == (3, 1, 7)


def test_a_text_scores_the_same_alone_and_among_others(model):
    together = score_texts(model, TEXTS).nats
    alone = [score_texts(model, [text]).nats[0] for text in TEXTS]
    assert together == pytest.approx(alone, rel=1e-4)  # sums in another order


def test_the_ratio_of_a_model_to_itself_is_one(model):
    scores = score_texts(model, TEXTS)
    ratio = perplexity_ratio(scores, scores)
    assert (ratio.ratio, *ratio.interval) == (1.0, 1.0, 1.0)
    assert (ratio.num_texts, ratio.num_tokens) == (3, 11)


def test_the_ratio_weighs_tokens():
    base = TextScores(nats=(1.0, 9.0), num_tokens=(1, 9))
    ours = TextScores(nats=(2.0, 9.0), num_tokens=(1, 9))
    assert perplexity_ratio(ours, base).ratio == pytest.approx(1.1052, abs=1e-4)  # e ** (1 / 10)


def test_texts_without_a_second_token_and_other_texts_are_refused(model):
    with pytest.raises(DataError, match="two tokens"):
        score_texts(model, [[5]])
    with pytest.raises(DataError, match="different texts"):
        perplexity_ratio(score_texts(model, TEXTS), score_texts(model, TEXTS[:2]))
