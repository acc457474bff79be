"""Samples and models for training tests, made without files or tokenizers."""

import dataclasses
from functools import cache

import torch

from unimoe.model.omni import OmniModel
from unimoe.recipes.tiny import tiny_config
from unimoe.tokens.labels import IGNORED
from unimoe.tokens.sequence import Sample
from unimoe.train.batches import TrainSample
from unimoe.train.plan import Plan

CONFIG = dataclasses.replace(tiny_config(), audio=None)
SPECIAL = CONFIG.special_tokens


class Source(list):
    """A list of samples as a source."""

    @property
    def lengths(self):
        return [len(entry.sample.input_ids) for entry in self]


def tiny_model() -> OmniModel:
    """A mixture that sees, of random weights wide enough to learn with."""
    model = _random_model()
    fresh = OmniModel(CONFIG)
    fresh.load_state_dict(model.state_dict())
    return fresh


@cache
def _random_model() -> OmniModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = OmniModel(CONFIG)
        for parameter in model.core.parameters():
            if parameter.dim() >= 2:
                torch.nn.init.normal_(parameter, 0.0, parameter.shape[-1] ** -0.5)
    return model


def text(*ids: int, answer: int = 1, task: str = "copy") -> TrainSample:
    """Tokens whose last `answer` ones are learned."""
    input_ids = torch.tensor(ids)
    labels = torch.full_like(input_ids, IGNORED)
    labels[-answer:] = input_ids[-answer:]
    sample = Sample(input_ids=input_ids, labels=labels, token_counts={"text": len(ids)})
    return TrainSample(sample, task, "text")


def picture(value: float, answer: int) -> TrainSample:
    """A picture's states, all of one value, and the token to say of it."""
    ids = [SPECIAL.vision_start, *[SPECIAL.image_pad] * 4, SPECIAL.vision_end, answer]
    input_ids = torch.tensor(ids)
    labels = torch.full_like(input_ids, IGNORED)
    labels[-1] = answer
    sample = Sample(
        input_ids=input_ids,
        labels=labels,
        image_states=torch.full((1, 16, 32), value),
        image_grid_thw=torch.tensor([[1, 1, 1]]),
        token_counts={"text": 3, "image": 4},
    )
    return TrainSample(sample, "see", "image")


def copies(count: int = 12) -> Source:
    """Short texts whose last token repeats their first."""
    return Source(text(20 + n, 40, 41 + n % 3, 20 + n) for n in range(count))


def pictures(count: int = 6) -> Source:
    return Source(picture((-1.0) ** n, 60 + n % 2) for n in range(count))


SOURCES = {"copies": copies(), "pictures": pictures()}


def plan(**changes) -> Plan:
    """Eight steps of two rows."""
    values = {
        "steps": 8,
        "tokens_per_step": 64,
        "row_length": 32,
        "learns": {"core.layers.*.ffn.*": 1.0, "vision.aligner.*": 0.5},
        "mixture": {"copies": 2.0, "pictures": 1.0},
        "lr": 3e-3,
        "warmup_steps": 2,
        "save_every": 3,
        "evaluate_every": 4,
        "evaluate_tokens": 32,
        "expert_use_every": 4,
        "ema_decay": 0.9,
    }
    return Plan(**(values | changes))


def curve(journal: list[dict]) -> list[dict]:
    """What a journal says apart from how long it took."""
    timed = ("seconds", "tokens_per_second")
    return [{key: value for key, value in line.items() if key not in timed} for line in journal]
