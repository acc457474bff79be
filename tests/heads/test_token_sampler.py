"""Dynamic token sampler: which tokens stay, their order, their gradient."""

import pytest
import torch

from tests.heads.golden_image import small_config
from unimoe.heads.token_sampler import TokenSampler, kept_places


@pytest.fixture
def sampler() -> TokenSampler:
    torch.manual_seed(3)
    return TokenSampler(small_config())


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(2, 30, 40, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def task() -> torch.Tensor:
    return torch.randn(2, 40, generator=torch.Generator().manual_seed(5))


def test_largest_shares_stay_in_rising_order() -> None:
    shares = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.4, 0.1, 0.3, 0.2]])
    assert kept_places(shares, 2).tolist() == [[1, 3], [0, 2]]


def test_noise_decides_when_it_is_loud(
    sampler: TokenSampler, image: torch.Tensor, task: torch.Tensor
) -> None:
    noise = torch.full((2, 30), -100.0)
    noise[0, 5:15] = noise[1, 20:] = 0.0
    kept = sampler(image, task, noise)
    projected = sampler.image_proj(image)
    torch.testing.assert_close(kept[0], projected[0, 5:15])
    torch.testing.assert_close(kept[1], projected[1, 20:])


def test_absent_image_becomes_zeros(sampler: TokenSampler, task: torch.Tensor) -> None:
    kept = sampler(torch.zeros(2, 30, 40), task, torch.randn(2, 30))
    assert torch.equal(kept, torch.zeros(2, 10, 48))


def test_the_task_has_a_say_in_the_choice(sampler: TokenSampler, image: torch.Tensor) -> None:
    tasks = torch.randn(2, 40, generator=torch.Generator().manual_seed(6)) * 30
    same = image[:1].expand(2, -1, -1)
    kept = sampler(same, tasks, None)
    assert not torch.equal(kept[0], kept[1])


def test_scores_learn_through_the_choice(
    sampler: TokenSampler, image: torch.Tensor, task: torch.Tensor
) -> None:
    sampler(image, task, None).square().sum().backward()
    assert sampler.score[4].weight.grad.abs().max() > 1e-6
    assert sampler.task_proj.weight.grad.abs().max() > 1e-8
