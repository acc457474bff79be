"""What a user would get instead: answers from the question alone, from a cascade, from a probe.

    blind     the commonest training answer to the same question, without looking or listening
    cascade   Whisper tiny.en writes down what it hears, SmolLM2 answers the text; where a
              transcript is asked for, the transcript itself
    probe     a linear classifier on DINOv2's features, one for every question asked often

In:  samples.  Out: answers, as from a model.  All learn from the training split at most.
Axes: items = pictures, features = means and maxima over the patches of a picture.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from unimoe.data.sample import PLACEHOLDER, OmniSample, Turn
from unimoe.errors import DataError, RequestError
from unimoe.evals.answer import Answer, Answerer, Answers
from unimoe.evals.task import TaskItems
from unimoe.media.audio import AudioSource

BaselineName = Literal["blind", "cascade", "probe"]

_TALKATIVE_TOKENS = 32
_BRIEFLY = "Answer in one or two words."
_MIN_EXAMPLES = 20
"""A question asked more rarely is answered by the classifier of its task."""
_STEPS = 200
_DECAY = 1e-3


@runtime_checkable
class Ear(Protocol):
    """Something that writes down what it hears."""

    def transcribe(self, sounds: Sequence[AudioSource]) -> list[str]:
        """What is said in each recording."""


@runtime_checkable
class Eye(Protocol):
    """Something that describes a picture in numbers."""

    def features(self, images: Sequence[Path]) -> Float[Tensor, "items features"]:
        """One row a picture."""


def baseline_named(name: str) -> BaselineName:
    """The baseline of that name.

    Raises:
        RequestError: there is none.
    """
    for known in get_args(BaselineName):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise RequestError(f"no baseline {name!r}; there are {', '.join(get_args(BaselineName))}")


def applies(baseline: BaselineName, items: TaskItems) -> bool:
    """It has something to say to these samples: none is of another kind than it can take in."""
    if baseline == "blind":
        return items.task.judge != "wer"
    if baseline == "cascade":
        return all(sample.audios or sample.modalities == "text" for sample in items.samples)
    return all(sample.modalities == "image" and len(sample.images) == 1 for sample in items.samples)


def listening_items(items: TaskItems) -> TaskItems:
    """As a cascade is asked: it may say more than the answer, which need only occur in it."""
    if items.task.judge == "wer":
        return items
    task = replace(items.task, judge="mention", max_new_tokens=_TALKATIVE_TOKENS)
    return replace(items, task=task)


class BlindAnswerer:
    """Knows the training answers to a question by heart, and guesses else.

    Args:
        training: samples to learn from; all their turns count.
    """

    def __init__(self, training: Iterable[OmniSample]) -> None:
        by_question: dict[str, Counter[str]] = defaultdict(Counter)
        overall: Counter[str] = Counter()
        for sample in training:
            for question, answer in exchanges(sample):
                by_question[question][answer] += 1
                overall[answer] += 1
        if not overall:
            raise DataError("no training answers to guess by; need the training split")
        self._overall = overall.most_common(1)[0][0]
        self._best = {key: counts.most_common(1)[0][0] for key, counts in by_question.items()}

    def answer(self, samples: Sequence[OmniSample], folder: Path, max_new_tokens: int) -> Answers:
        """Guess."""
        asked = [exchanges(sample)[-1][0] for sample in samples]
        return Answers([Answer(text=self._best.get(key, self._overall)) for key in asked])


class TranscriptAnswerer:
    """Whatever was asked, the transcript of the last recording."""

    def __init__(self, ear: Ear) -> None:
        self._ear = ear

    def answer(self, samples: Sequence[OmniSample], folder: Path, max_new_tokens: int) -> Answers:
        """Write down."""
        texts = self._ear.transcribe([folder / sample.audios[-1] for sample in samples])
        return Answers([Answer(text=text) for text in texts])


class CascadeAnswerer:
    """Whisper's transcript and the question, answered by a language model that hears nothing.

    Pictures and videos do not get through: that is what such a cascade is.
    """

    def __init__(self, ear: Ear, reader: Answerer) -> None:
        self._ear = ear
        self._reader = reader

    def answer(self, samples: Sequence[OmniSample], folder: Path, max_new_tokens: int) -> Answers:
        """Listen, then read."""
        paths = [folder / path for sample in samples for path in sample.audios]
        heard = iter(self._ear.transcribe(paths) if paths else [])
        texts = [_as_text(sample, heard) for sample in samples]
        return self._reader.answer(texts, folder, max_new_tokens)


class ProbeAnswerer:
    """Linear classifiers on the features of single pictures.

    Args:
        eye: gives the features.
        training: samples with one picture; others are not learnt from.
        folder: where their pictures are.
    """

    def __init__(self, eye: Eye, training: Sequence[OmniSample], folder: Path) -> None:
        self._eye = eye
        shown = [sample for sample in training if len(sample.images) == 1]
        if not shown:
            raise DataError("no training sample with one picture; need the training split")
        paths = sorted({sample.images[0] for sample in shown})
        features = eye.features([folder / path for path in paths])
        self._mean, self._spread = features.mean(0), features.std(0) + 1e-6
        row_of = {path: row for row, path in enumerate(paths)}
        pairs: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for sample in shown:
            for question, answer in exchanges(sample):
                row = row_of[sample.images[0]]
                pairs[question].append((row, answer))
                pairs[_task_key(sample)].append((row, answer))
        scaled = self._scaled(features)
        self._probes = {
            key: _Probe(scaled, examples)
            for key, examples in pairs.items()
            if len(examples) >= _MIN_EXAMPLES or key.startswith("task ")
        }

    def answer(self, samples: Sequence[OmniSample], folder: Path, max_new_tokens: int) -> Answers:
        """Classify each picture by the classifier of its question."""
        features = self._scaled(self._eye.features([folder / s.images[0] for s in samples]))
        answers = []
        for sample, row in zip(samples, features, strict=True):
            question = exchanges(sample)[-1][0]
            probe = self._probes.get(question) or self._probes[_task_key(sample)]
            answers.append(Answer(text=probe.answer(row)))
        return Answers(answers)

    def _scaled(self, features: Float[Tensor, "items features"]) -> Float[Tensor, "items features"]:
        return (features - self._mean) / self._spread


class _Probe:
    """Softmax regression by full-batch L-BFGS."""

    def __init__(
        self, features: Float[Tensor, "items features"], examples: Sequence[tuple[int, str]]
    ) -> None:
        self._answers = sorted({answer for _, answer in examples})
        place = {answer: index for index, answer in enumerate(self._answers)}
        rows = torch.tensor([row for row, _ in examples])
        targets = torch.tensor([place[answer] for _, answer in examples])
        self._matrix, self._bias = _fit(features[rows], targets, len(self._answers))

    def answer(self, row: Float[Tensor, " features"]) -> str:
        return self._answers[int((self._matrix @ row + self._bias).argmax())]


def _fit(
    features: Float[Tensor, "items features"], targets: Int[Tensor, " items"], num_classes: int
) -> tuple[Tensor, Tensor]:
    matrix = torch.zeros(num_classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(num_classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([matrix, bias], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        fit = functional.cross_entropy(features @ matrix.T + bias, targets)
        loss = fit + _DECAY * matrix.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return matrix.detach(), bias.detach()


def exchanges(sample: OmniSample) -> list[tuple[str, str]]:
    """Questions and answers of a conversation, the questions without their media."""
    turns = sample.conversations
    return [
        (PLACEHOLDER.sub("", asked.text).strip().casefold(), said.text)
        for asked, said in pairwise(turns)
        if (asked.role, said.role) == ("user", "assistant")
    ]


def _task_key(sample: OmniSample) -> str:
    return f"task {sample.task}"


def _as_text(sample: OmniSample, heard: Iterable[str]) -> OmniSample:
    """The sample with transcripts in place of sounds, and without what cannot be told in words."""
    transcripts = iter(heard)

    def told(match: re.Match[str]) -> str:
        return f'"{next(transcripts)}" ' if match[1] == "audio" else ""

    turns = [
        Turn(turn.role, PLACEHOLDER.sub(told, turn.text).strip()) for turn in sample.conversations
    ]
    question = turns[-2]
    turns[-2] = Turn(question.role, f"{question.text}\n{_BRIEFLY}")
    return OmniSample(
        id=sample.id, conversations=tuple(turns), task=sample.task, answers=sample.answers
    )
