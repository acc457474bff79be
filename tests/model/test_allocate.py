"""Memory for a model without storage: all of it, and what was frozen stays frozen."""

import torch

from unimoe.model.allocate import allocate, meta_model
from unimoe.model.omni import OmniModel
from unimoe.recipes.tiny import tiny_config


def test_an_allocated_model_trains_what_a_fresh_one_trains() -> None:
    fresh, allocated = OmniModel(tiny_config()), meta_model(tiny_config())
    allocate(allocated, lambda _, shape: torch.zeros(shape))
    wanted = {name: parameter.requires_grad for name, parameter in fresh.named_parameters()}
    found = {name: parameter.requires_grad for name, parameter in allocated.named_parameters()}
    assert found == wanted
    assert not found["audio.tower.embed_positions.weight"]


def test_nothing_is_left_without_memory() -> None:
    model = meta_model(tiny_config())
    allocate(model, lambda _, shape: torch.zeros(shape))
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
