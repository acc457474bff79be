"""Words alone: chat, meanings of words, facts and sums, to keep the ability of the language core.

Also what is said when a picture is asked for: the painter draws of the question, the core answers.

In:  folders of the parts `wordnet` and `chatterbot`; facts and sums made here.
Out: a data set. In training short questions stand three in a conversation. Sums and stories are
     task "reasoning": their answers can be checked, for rewards too.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from unimoe.data.build.canvas import COLOURS, SHAPES
from unimoe.data.build.corpora import (
    Dialogue,
    Gloss,
    read_dialogues,
    read_glosses,
    read_opposites,
)
from unimoe.data.build.drawing_scenes import article
from unimoe.data.build.drawing_tasks import NAME_PROMPTS
from unimoe.data.build.drawings import Concept, read_concepts
from unimoe.data.build.facts import comparisons, kinds, opposites, orders, stories, sums
from unimoe.data.build.questions import Asked, capital
from unimoe.data.build.sentences import split_of_sentence, words_of
from unimoe.data.card import DataCard
from unimoe.data.sample import OmniSample, Turn
from unimoe.data.splits import SPLITS, Split, unit_hash
from unimoe.data.writer import DatasetWriter
from unimoe.parts import fetch, part

_PARTS = ("wordnet", "chatterbot")
_TURNS_OF_TASK = {"chat": 1, "definition": 2, "fact": 3, "reasoning": 3, "drawing": 2}
# Questions of each task in a split, where there are so many.
_MOST: Mapping[Split, Mapping[str, int]] = {
    "train": {"chat": 2000, "definition": 2400, "fact": 3000, "reasoning": 4200, "drawing": 800},
    "validation": {"chat": 40, "definition": 40, "fact": 40, "reasoning": 60, "drawing": 20},
    "test": {"chat": 100, "definition": 100, "fact": 100, "reasoning": 200, "drawing": 40},
}
_NUM_SUMS, _NUM_STORIES, _NUM_COMPARISONS = 2400, 2600, 500
_MAX_ANSWER_WORDS, _MAX_DEFINITION_WORDS = 45, 18
_DEFINITION_QUESTIONS = ('What does "{}" mean?', 'What is the meaning of "{}"?', 'Define "{}".')

_CARD = DataCard(
    subject="Questions in words and their answers: chat, meanings of words, facts about days, "
    "letters, opposites and things, sums that can be checked, and requests for a picture, to which "
    "the answer says what it shows.",
    source="chatterbot-corpus 1.3.3 (chat), WordNet 3.0 (definitions, opposites), the concepts of "
    "the drawings (kinds and colours of things), calculations made by the builder.",
    licence="chatterbot-corpus BSD; WordNet licence; the rest is ours.",
    split_rule="By the hash of the words of the question, numbers in words, as in the sets speech "
    "and spoken: what is asked in the test of one is not in the training of another. 86 % "
    "training, 4 % validation, 10 % test.",
    notes="chatterbot's answers are those of a bot of 2016, some of them jokes; its tables on "
    "coding and technical support are long-winded and cut to answers of 45 words or fewer.",
)


def build(folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Build the data set from its parts, fetched if they are not there yet.

    Args:
        folder: where the set will stand.
        seed: of the numbers and the order.
        scale: share of the questions used.
    """
    build_text({name: fetch(part(name)) for name in _PARTS}, folder, seed=seed, scale=scale)


def build_text(
    sources: Mapping[str, Path], folder: Path, *, seed: int = 0, scale: float = 1.0
) -> None:
    """Build the data set from folders of parts."""
    asked = {
        "chat": list(chats(read_dialogues(sources["chatterbot"]))),
        "definition": list(definitions(read_glosses(sources["wordnet"]))),
        "fact": typed_facts(sources, seed=seed),
        "reasoning": _reasoning(seed),
        "drawing": list(drawing_requests(read_concepts())),
    }
    with DatasetWriter(folder, "text", seed, disjoint=["question"]) as writer:
        for task, questions in asked.items():
            unique = {words_of(each.question): each for each in questions}
            ordered = sorted(unique, key=lambda key: unit_hash(f"{task} {key}", seed))
            for split in SPLITS:
                keys = [key for key in ordered if split_of_sentence(key) == split]
                chosen = keys[: max(1, round(_MOST[split][task] * scale))]
                for sample in _samples(task, split, [unique[key] for key in chosen]):
                    writer.add(split, sample)
        writer.close(_CARD)


def chats(dialogues: Iterable[Dialogue]) -> Iterator[Asked]:
    """Questions and answers of the chatterbot corpus that are not too long."""
    for dialogue in dialogues:
        if len(dialogue.answer.split()) <= _MAX_ANSWER_WORDS:
            question = capital(dialogue.question)
            yield Asked(question, capital(dialogue.answer), (dialogue.answer,), dialogue.topic)


def definitions(glosses: Iterable[Gloss]) -> Iterator[Asked]:
    """What words mean, by their first meaning; single words only."""
    seen: set[str] = set()
    for gloss in glosses:
        is_plain = gloss.word.isalpha() and gloss.word.islower() and "(" not in gloss.definition
        if gloss.word in seen or not is_plain or not gloss.examples:
            continue
        seen.add(gloss.word)
        if len(gloss.definition.split()) <= _MAX_DEFINITION_WORDS:
            index = int(unit_hash(gloss.word) * len(_DEFINITION_QUESTIONS))
            question = _DEFINITION_QUESTIONS[index].format(gloss.word)
            answer = f"{capital(gloss.definition)}."
            yield Asked(question, answer, (gloss.definition,), gloss.part_of_speech)


def typed_facts(sources: Mapping[str, Path], *, seed: int = 0) -> list[Asked]:
    """All questions of `facts` that have no numbers drawn."""
    rng = random.Random(f"{seed} kinds")
    pairs = read_opposites(sources["wordnet"])
    return [*orders(), *opposites(pairs), *kinds(read_concepts(), rng)]


def drawing_requests(concepts: Sequence[Concept]) -> Iterator[Asked]:
    """Pictures asked for as the painter learns to be asked, and what is said beside them."""
    shapes = (article(f"{colour} {shape}") for colour in COLOURS for shape in SHAPES)
    for phrase in (*(concept.phrase for concept in concepts), *shapes):
        for wording in NAME_PROMPTS:
            answer = f"Here is {phrase}."
            yield Asked(wording.format(phrase), answer, (answer,), "drawing")


def _reasoning(seed: int) -> list[Asked]:
    rng = random.Random(f"{seed} reasoning")
    return [
        *islice(sums(rng, is_spoken=False), _NUM_SUMS),
        *islice(stories(rng), _NUM_STORIES),
        *islice(comparisons(rng, is_spoken=False), _NUM_COMPARISONS),
    ]


def _samples(task: str, split: Split, asked: Sequence[Asked]) -> Iterator[OmniSample]:
    size = _TURNS_OF_TASK[task] if split == "train" else 1
    for start in range(0, len(asked), size):
        group = asked[start : start + size]
        turns = [
            turn
            for each in group
            for turn in (Turn("user", each.question), Turn("assistant", each.answer))
        ]
        yield OmniSample(
            id=f"text {task} {split} {start}",
            conversations=tuple(turns),
            task=task,
            answers=group[-1].accepted,
            traits={"kind": group[-1].kind, "question": words_of(group[-1].question)},
        )
