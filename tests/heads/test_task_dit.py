"""The image head as a whole: recorded projections, branches of guidance, from states to latents."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from tests.heads.golden_image import (
    FOLDER,
    KEPT,
    checkpoint_of,
    small_config,
    tensors_in,
    tensors_of,
)
from unimoe.config import GuidanceConfig, TaskDiTConfig
from unimoe.errors import ConfigError, RequestError
from unimoe.heads.flow import draw_flow
from unimoe.heads.image_weights import load_task_dit
from unimoe.heads.task_dit import (
    QueryProjector,
    TaskDiT,
    TaskFeatures,
    draw_latents,
    guidance_branches,
)

GUIDANCE = GuidanceConfig(num_steps=2, image_scale=1.3, base_tokens=36)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> TaskDiT:
    tensors = tensors_of("dit", "projectors")
    directory = tmp_path_factory.mktemp("head")
    return load_task_dit(checkpoint_of(tensors, directory), num_kept_tokens=KEPT)


def states_of(batch: int) -> dict[str, Tensor]:
    """States of a core of width 64, for an image of 30 source tokens."""
    generator = torch.Generator().manual_seed(21)
    return {
        "image_states": torch.randn(batch, 64, 64, generator=generator),
        "task_states": torch.randn(batch, 3, 64, generator=generator),
        "vision_tokens": torch.randn(batch, 30, 64, generator=generator),
    }


def source_of(batch: int) -> Tensor:
    return torch.randn(batch, 4, 8, 12, generator=torch.Generator().manual_seed(22))


@torch.no_grad()
def drawn(head: TaskDiT, states: dict[str, Tensor], source: Tensor, seeds: list[int]) -> Tensor:
    features = head.features(**states)
    return list(draw_latents(head.dit, features, source, seeds=seeds, guidance=GUIDANCE))[-1]


@pytest.mark.parametrize(
    ("projector", "name"),
    [("content_projector", "image"), ("task_projector", "task"), ("visual_projector", "visual")],
)
@pytest.mark.parametrize("is_learning", [True, False])
def test_projection_is_the_recorded_one_in_training_and_in_use(
    head: TaskDiT, projector: str, name: str, is_learning: bool
) -> None:
    recorded = tensors_in("projectors")
    with torch.set_grad_enabled(is_learning):
        projected = head.get_submodule(projector)(recorded[f"in.{name}"])
    torch.testing.assert_close(projected, recorded[f"expected.{name}"], rtol=0, atol=1e-5)


def test_features_of_any_number_of_states_have_the_widths_of_the_dit(head: TaskDiT) -> None:
    features = head.features(torch.randn(2, 7, 64), torch.randn(2, 3, 64), torch.randn(2, 40, 64))
    assert features.prompt.shape == (2, 32, 24)
    assert features.task.shape == (2, 3, 20)
    assert features.image.shape == (2, 40, 40)


def test_branches_are_full_image_alone_and_neither(head: TaskDiT) -> None:
    features = head.features(**states_of(2))
    source, noise, blank = source_of(2), torch.randn(2, 4, 8, 12), torch.randn(24)
    branches = guidance_branches(features, source, source, noise, blank)
    full, image, empty = (
        tuple(part.unflatten(0, (3, 2))[branch] for part in branches) for branch in range(3)
    )
    first_only = torch.tensor([[True] + [False] * 31] * 2)
    blanks = blank.expand(2, 32, 24)
    everything = torch.ones(2, 32, dtype=torch.bool)
    wanted = (
        (full, (source, features.image, features.prompt, everything, features.task[:, 0])),
        (image, (source, features.image, blanks, first_only, features.task[:, 1])),
        (empty, (noise, 0 * features.image, blanks, first_only, features.task[:, 2])),
    )
    for branch, parts in wanted:
        for ours, theirs in zip(branch, parts, strict=True):
            assert torch.equal(ours, theirs)


def test_source_image_is_heard_through_its_tokens_too(head: TaskDiT) -> None:
    states = states_of(1)
    first = drawn(head, states, source_of(1), [5])
    other = drawn(head, states | {"vision_tokens": -states["vision_tokens"]}, source_of(1), [5])
    assert (first - other).abs().max() > 0.1


def test_same_seed_same_image(head: TaskDiT) -> None:
    first = drawn(head, states_of(1), source_of(1), [5])
    assert torch.equal(first, drawn(head, states_of(1), source_of(1), [5]))
    assert not torch.allclose(first, drawn(head, states_of(1), source_of(1), [6]), atol=0.1)


def test_batch_of_two_equals_two_single_runs(head: TaskDiT) -> None:
    states, source = states_of(2), source_of(2)
    both = drawn(head, states, source, [5, 6])
    for image, seed in enumerate([5, 6]):
        one = slice(image, image + 1)
        alone = drawn(head, {name: part[one] for name, part in states.items()}, source[one], [seed])
        # Products of other sizes round differently: measured 2e-5, of values up to 20.
        torch.testing.assert_close(both[one], alone, rtol=1e-4, atol=1e-4)


def test_the_branch_without_a_prompt_may_have_a_source_of_its_own(head: TaskDiT) -> None:
    features = head.features(**states_of(1))
    source, other = source_of(1), torch.zeros(1, 4, 8, 12)

    branches = guidance_branches(features, source, other, source, None)

    assert torch.equal(branches.source, torch.cat([source, other, source]))


def test_zeros_as_blank_prompt_are_the_default(head: TaskDiT) -> None:
    features = head.features(**states_of(1))
    source = source_of(1)
    default = guidance_branches(features, source, source, source, None)
    zeros = guidance_branches(features, source, source, source, torch.zeros(24))
    assert torch.equal(default.prompt, zeros.prompt)


def test_seeds_must_be_as_many_as_images(head: TaskDiT) -> None:
    features = head.features(**states_of(2))
    with pytest.raises(RequestError, match="1 seeds for 2 images"):
        draw_latents(head.dit, features, source_of(2), seeds=[5], guidance=GUIDANCE)


def test_loss_teaches_projectors_and_dit(head: TaskDiT) -> None:
    target = source_of(2).flip(0)
    torch.manual_seed(1)
    head.zero_grad()
    features = head.features(**states_of(2))
    head.loss(features, source_of(2), target, draw_flow(head.dit, target, 30)).backward()
    for part in (
        head.content_projector.queries,
        head.task_projector.in_proj.weight,
        head.visual_projector.weight,
        head.dit.layers[2].attention.text_gate,
    ):
        assert part.grad is not None
        assert part.grad.abs().max() > 1e-6


def test_new_queries_and_new_layers_differ() -> None:
    config = TaskDiTConfig(dit=small_config(), core_width=16, projector_width=32)
    projector = QueryProjector(config, num_queries=4, out_width=8)
    first, second = (projector.encoder.layers[layer].linear1.weight for layer in (0, 1))
    assert not torch.equal(first, second)
    gathered = projector(torch.randn(1, 5, 16))
    assert (gathered[:, 0] - gathered[:, 1]).abs().max() > 1e-4


def test_projector_heads_must_divide_its_width() -> None:
    with pytest.raises(ConfigError, match="no multiple of projector_heads"):
        TaskDiTConfig(dit=small_config(), core_width=16, projector_width=30)


def test_building_the_head_needs_no_process_group_and_no_parallel_library() -> None:
    code = (
        "import sys, torch\n"
        "from tests.heads.golden_image import small_config\n"
        "from unimoe.config import TaskDiTConfig\n"
        "from unimoe.heads.task_dit import TaskDiT\n"
        "TaskDiT(TaskDiTConfig(dit=small_config(), core_width=16, projector_width=32))\n"
        "assert not torch.distributed.is_initialized()\n"
        "assert not torch.cuda.is_initialized()\n"
        "print([name for name in ('fairscale', 'flash_attn', 'diffusers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=FOLDER.parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_features_are_values_of_the_projectors_dtype(head: TaskDiT) -> None:
    states = {name: part.double() for name, part in states_of(1).items()}
    features: TaskFeatures = head.features(**states)
    assert {part.dtype for part in features} == {torch.float32}
