"""What SmolLM2 itself answers, as a data set: mini learns to go on as its core did.

In:  the dense model of the parts; prompts of `sentences.toml`.
Out: a data set "distilled" of one prompt and its greedy answer a sample.
Answers that do not come to an end, or go round in circles, are left out and counted.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from unimoe.checkpoint.mini import base_directory
from unimoe.checkpoint.weights import load_model
from unimoe.data.build.drawings import read_concepts
from unimoe.data.build.sentences import prompts, split_of_sentence, words_of
from unimoe.data.card import DataCard
from unimoe.data.sample import OmniSample, Turn
from unimoe.data.writer import DatasetWriter
from unimoe.evals.answer import Answer, Answerer, ModelAnswerer
from unimoe.tokens.vocabulary import Vocabulary

TASK = "distilled"
_NUM_PROMPTS = 400
_MAX_NEW_TOKENS = 80
_FILLS_PER_PATTERN = 20
_MIN_WORDS = 3
_WINDOW_WORDS, _MAX_REPEATS = 4, 2

_log = logging.getLogger(__name__)


def build_distilled(folder: Path, *, seed: int = 0, count: int = _NUM_PROMPTS) -> None:
    """Let the dense base of mini answer prompts.

    Args:
        folder: where the set will stand.
        seed: of the prompts.
        count: of the prompts.

    Raises:
        PartsError: a part of the base cannot be had.
    """
    directory = base_directory()
    model = load_model(directory).eval()
    vocabulary = Vocabulary.from_directory(directory, model.config.special_tokens)
    answerer = ModelAnswerer(model, vocabulary)
    names = [concept.name for concept in read_concepts() if concept.name.islower()]
    asked = prompts(names, _FILLS_PER_PATTERN, seed=seed)[:count]
    write_distilled(answerer, asked, folder, seed=seed)


def write_distilled(
    answerer: Answerer, asked: Sequence[str], folder: Path, *, seed: int = 0
) -> None:
    """Ask, and keep what is usable."""
    blank = [_sample(question, "") for question in asked]
    answers = answerer.answer(blank, folder, _MAX_NEW_TOKENS).answers
    kept = [
        (question, text)
        for question, answer in zip(asked, answers, strict=True)
        if (text := usable(answer)) is not None
    ]
    left_out = len(asked) - len(kept)
    _log.info("%d prompts answered, %d answers left out", len(asked), left_out)
    with DatasetWriter(folder, TASK, seed, disjoint=["question"]) as writer:
        for question, text in kept:
            writer.add(split_of_sentence(question, seed), _sample(question, text))
        writer.close(_card(len(asked), left_out))


def usable(answer: Answer) -> str | None:
    """Its whole sentences; None if there are none, or it goes round in circles."""
    text = answer.text
    if answer.finish_reason != "stop":
        text = "".join(re.findall(r"[^.!?]*[.!?](?=\s|$)", text)).strip()
    words = text.lower().split()
    windows = Counter(zip(*(words[start:] for start in range(_WINDOW_WORDS)), strict=False))
    if len(words) < _MIN_WORDS or max(windows.values(), default=0) > _MAX_REPEATS:
        return None
    return text


def _sample(question: str, answer: str) -> OmniSample:
    return OmniSample(
        id=f"{TASK} {question}",
        conversations=(Turn("user", question), Turn("assistant", answer)),
        task=TASK,
        answers=(answer,) if answer else (),
        traits={"question": words_of(question)},
    )


def _card(num_asked: int, num_left_out: int) -> DataCard:
    return DataCard(
        subject="A question and what SmolLM2-135M-Instruct answers, greedily, in up to "
        f"{_MAX_NEW_TOKENS} tokens.",
        source="The dense model that mini is made of; prompts from patterns.",
        licence="SmolLM2: Apache-2.0.",
        split_rule="By the hash of the words of the question.",
        notes=f"{num_asked} prompts were asked; {num_left_out} answers had no whole sentence or "
        "repeated themselves. Facts in the answers are often wrong: they keep the manner of the "
        "core, not the truth.",
    )
