"""States that are painted, of prompts read together."""

from pathlib import Path

import torch

from unimoe.checkpoint.weights import load_model
from unimoe.infer.drawing import drawing_states

NUM_IMAGE_STATES = 3


def test_prompts_together_give_what_each_gives_alone(tiny_directory: Path) -> None:
    model = load_model(tiny_directory)
    torch.manual_seed(0)
    prompts = [torch.randint(20, 200, (length,)) for length in (9, 14, 11)]
    with torch.inference_mode():
        together = drawing_states(prompts, model, NUM_IMAGE_STATES)
        alone = [drawing_states([prompt], model, NUM_IMAGE_STATES)[0] for prompt in prompts]
    assert together.shape == (3, 1 + NUM_IMAGE_STATES, model.config.core.hidden_size)
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-4, atol=1e-5)
