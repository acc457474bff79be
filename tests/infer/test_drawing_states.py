"""States that are painted: what all prompts begin with is read once."""

import pytest
import torch

from unimoe.checkpoint.weights import load_model
from unimoe.infer.drawing import drawing_states
from unimoe.model.omni import OmniModel

NUM_IMAGE_STATES = 3


@pytest.fixture(scope="module")
def model(tiny_directory) -> OmniModel:
    return load_model(tiny_directory).eval()


def _prompts(num_alike: int, lengths: list[int]) -> list[torch.Tensor]:
    torch.manual_seed(0)
    begun = torch.randint(20, 200, (num_alike,))
    return [
        torch.cat([begun, torch.tensor([201 + n]), torch.randint(20, 200, (length,))])
        for n, length in enumerate(lengths)
    ]


@pytest.mark.parametrize("num_alike", [0, 5])
def test_prompts_together_give_what_each_gives_alone(model, num_alike):
    prompts = _prompts(num_alike, [4, 9, 6])
    together = drawing_states(prompts, model, NUM_IMAGE_STATES)
    alone = [drawing_states([prompt], model, NUM_IMAGE_STATES)[0] for prompt in prompts]
    assert together.shape == (3, 1 + NUM_IMAGE_STATES, model.config.core.hidden_size)
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-4, atol=1e-5)


def test_the_same_prompt_twice_keeps_its_own_states(model):
    (prompt,) = _prompts(5, [6])
    once, again = drawing_states([prompt, prompt], model, NUM_IMAGE_STATES)
    alone = drawing_states([prompt], model, NUM_IMAGE_STATES)[0]
    torch.testing.assert_close(once, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(again, alone, rtol=1e-4, atol=1e-5)


def test_what_all_begin_with_is_read_once(model, monkeypatch):
    tokens = []
    read = model.forward

    def counted(ids, **arguments):
        tokens.append(ids.numel())
        return read(ids, **arguments)

    monkeypatch.setattr(model, "forward", counted)
    drawing_states(_prompts(5, [6, 6, 6, 6]), model, NUM_IMAGE_STATES)
    assert tokens == [5, 4 * 7]
