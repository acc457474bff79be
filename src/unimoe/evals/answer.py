"""Who is asked: anything that turns samples into answers; here, a model.

In:  samples, whose last turn is left out.  Out: an `Answer` each, in their order.
Prompts of similar length share a batch, padded on the left; which do depends on the samples alone,
so that asking again gives the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from unimoe.data.sample import OmniSample
from unimoe.evals.tower_states import TowerStates
from unimoe.infer.engine import generate
from unimoe.infer.expert_use import ExpertUseByGroup, ExpertUseRecord
from unimoe.infer.sampling import SamplingOptions
from unimoe.model.omni import OmniModel
from unimoe.tokens.batch import collate
from unimoe.tokens.conversation import messages_of
from unimoe.tokens.sequence import Sample, encode_chat
from unimoe.tokens.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What was said to one sample."""

    text: str
    prompt_tokens: int = 0
    new_tokens: int = 0
    finish_reason: str | None = None
    experts_per_token: float | None = None
    null_share: float | None = None


class Answers(NamedTuple):
    """Answers to several samples."""

    answers: list[Answer]
    expert_use: ExpertUseRecord | None = None
    """None: there are no experts."""


@runtime_checkable
class Answerer(Protocol):
    """Somebody to ask."""

    def answer(self, samples: Sequence[OmniSample], folder: Path, max_new_tokens: int) -> Answers:
        """Answer the last question of every sample."""


class ModelAnswerer:
    """A model that answers greedily.

    Args:
        model: in evaluation mode.
        vocabulary: of its directory.
        batch_size: prompts at a time.
        top_p_routing: routing threshold in place of the checkpoint's.
        states: what its towers make of media; None: computed anew for every window of samples.
    """

    def __init__(
        self,
        model: OmniModel,
        vocabulary: Vocabulary,
        *,
        batch_size: int = 16,
        top_p_routing: float | None = None,
        states: TowerStates | None = None,
    ) -> None:
        self._model = model
        self._vocabulary = vocabulary
        self._batch_size = batch_size
        self._top_p_routing = top_p_routing
        self._states = states or TowerStates(model)

    def answer(self, samples: Sequence[OmniSample], folder: Path, max_new_tokens: int) -> Answers:
        """Answer the last question of every sample."""
        core = self._model.config.core
        prompts = [self._prompt(sample, folder) for sample in samples]
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place].input_ids))
        use = None
        if core.moe is not None:
            use = ExpertUseByGroup(core.moe.router, core.num_layers, self._model.device)
        answers: dict[int, Answer] = {}
        for start in range(0, len(order), self._batch_size):
            places = order[start : start + self._batch_size]
            batch = [prompts[place] for place in places]
            given = self._generate(batch, max_new_tokens, use)
            answers.update(zip(places, given, strict=True))
        self._states.forget()
        in_order = [answers[place] for place in range(len(samples))]
        return Answers(in_order, None if use is None else use.record())

    def _prompt(self, sample: OmniSample, folder: Path) -> Sample:
        messages = messages_of(sample, folder)[:-1]
        prompt = encode_chat(messages, self._vocabulary, self._model.config)
        return self._states.of(prompt)

    def _generate(
        self, prompts: list[Sample], max_new_tokens: int, use: ExpertUseByGroup | None
    ) -> list[Answer]:
        model, vocabulary = self._model, self._vocabulary
        pad_id = model.config.special_tokens.pad
        options = SamplingOptions(
            max_new_tokens=max_new_tokens, stop_tokens=tuple(sorted(vocabulary.end_ids)), seed=0
        )
        generation = generate(
            model,
            collate(prompts, pad_id=pad_id, padding="left"),
            options,
            top_p_routing=self._top_p_routing,
            expert_use=use,
        )
        rows = generation.tokens()
        answers = []
        for place, tokens in enumerate(rows):
            usage = generation.usage(place)
            said = tokens[:-1] if usage.finish_reason == "stop" else tokens
            answers.append(
                Answer(
                    text=vocabulary.decode(said).strip(),
                    prompt_tokens=sum(usage.prompt_tokens.values()),
                    new_tokens=usage.new_tokens,
                    finish_reason=usage.finish_reason,
                    experts_per_token=usage.experts_per_token,
                    null_share=usage.null_share,
                )
            )
        return answers
