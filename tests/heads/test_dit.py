"""The diffusion transformer: recorded velocities, and what must hold for any input."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.heads.golden_image import (
    KEPT,
    checkpoint_of,
    condition_of,
    guidance_of,
    random_condition,
    recorded_noise,
    small_config,
    tensors_in,
)
from unimoe.errors import ConfigError, RequestError
from unimoe.heads.dit import Condition, DiT
from unimoe.heads.dit_attention import grid_turns, softmax_scale
from unimoe.heads.flow import guided_velocity
from unimoe.heads.image_weights import load_dit

# The recorded float32 numbers are within 1.1e-5 of float64, of values up to 20.6.
ONE_STEP = {"rtol": 0, "atol": 2e-4}
STEPS = [
    ("dit", "dit_one_step_no_gumbel"),
    ("dit", "dit_one_step_gumbel"),
    ("dit_full_heads", "dit_full_heads_one_step_no_gumbel"),
]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DiT]:
    directory = tmp_path_factory.mktemp("dit")
    return {
        name: load_dit(checkpoint_of(tensors_in(name), directory / name), num_kept_tokens=KEPT)
        for name in ("dit", "dit_full_heads")
    }


@pytest.fixture(scope="module")
def dit(networks: dict[str, DiT]) -> DiT:
    return networks["dit"]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.mark.parametrize(("network", "case"), STEPS)
@torch.no_grad()
def test_guided_velocity_is_the_recorded_one(
    networks: dict[str, DiT], network: str, case: str
) -> None:
    recorded = tensors_in(case)
    noise = recorded_noise(recorded)
    velocity = guided_velocity(
        networks[network],
        recorded["z"][:1],
        recorded["t"][0],
        condition_of(recorded),
        None if noise is None else noise[0],
        guidance_of(case),
    )
    torch.testing.assert_close(velocity, recorded["expected.velocity"][:1], **ONE_STEP)


@pytest.mark.parametrize(("network", "case"), STEPS)
@torch.no_grad()
def test_channel_without_guidance_is_the_recorded_one_in_every_branch(
    networks: dict[str, DiT], network: str, case: str
) -> None:
    recorded = tensors_in(case)
    noise = recorded_noise(recorded)
    if noise is not None:
        noise = torch.cat([noise[0], torch.zeros_like(noise[0, :, :1])], dim=1).flatten(1, 2)
    velocity = networks[network](
        recorded["z"],
        recorded["t"],
        condition_of(recorded),
        noise=noise,
        base_tokens=guidance_of(case).base_tokens,
    )
    torch.testing.assert_close(velocity[:, 3:], recorded["expected.velocity"][:, 3:], **ONE_STEP)


@pytest.mark.parametrize(("network", "case"), [STEPS[0], STEPS[2]])
@torch.no_grad()
def test_plain_forward_is_the_recorded_one(
    networks: dict[str, DiT], network: str, case: str
) -> None:
    recorded = tensors_in(case)
    velocity = networks[network](recorded["z"], recorded["t_plain"], condition_of(recorded))
    torch.testing.assert_close(velocity, recorded["expected.plain_forward"], **ONE_STEP)


@torch.no_grad()
def test_rows_of_a_batch_do_not_know_of_each_other(dit: DiT, generator: torch.Generator) -> None:
    condition = random_condition(2, generator=generator)
    latents = torch.randn(2, 4, 8, 12, generator=generator)
    times = torch.tensor([0.2, 0.9])
    noise = torch.randn(3, 2, 30, generator=generator)
    both = dit(latents, times, condition, noise=noise)
    for row in range(2):
        one = slice(row, row + 1)
        alone = dit(
            latents[one],
            times[one],
            Condition(*(part[one] for part in condition)),
            noise=noise[:, one],
        )
        torch.testing.assert_close(both[one], alone, rtol=0, atol=2e-5)


@torch.no_grad()
def test_masked_prompt_tokens_are_never_looked_at(dit: DiT, generator: torch.Generator) -> None:
    condition = random_condition(1, generator=generator)
    mask = torch.tensor([[True, True, False, True, False]])
    other = condition.prompt + 5 * (~mask[..., None])
    latents, time = torch.randn(1, 4, 8, 12, generator=generator), torch.tensor([0.5])
    first = dit(latents, time, condition._replace(prompt_mask=mask))
    second = dit(latents, time, condition._replace(prompt_mask=mask, prompt=other))
    assert torch.equal(first, second)


@torch.no_grad()
def test_every_part_of_the_condition_is_heard(dit: DiT, generator: torch.Generator) -> None:
    condition = random_condition(1, generator=generator)
    latents, time = torch.randn(1, 4, 8, 12, generator=generator), torch.tensor([0.5])
    usual = dit(latents, time, condition)
    for name in ("source", "image", "prompt", "task"):
        changed = condition._replace(**{name: -getattr(condition, name)})
        assert (dit(latents, time, changed) - usual).abs().max() > 1e-2, name


@torch.no_grad()
def test_half_precision_stays_near_float32(
    dit: DiT, generator: torch.Generator, tmp_path: Path
) -> None:
    half = load_dit(
        checkpoint_of(tensors_in("dit"), tmp_path), dtype=torch.bfloat16, num_kept_tokens=30
    )
    whole = load_dit(checkpoint_of(tensors_in("dit"), tmp_path), num_kept_tokens=30)
    condition = random_condition(1, generator=generator)
    latents, time = torch.randn(1, 4, 8, 12, generator=generator), torch.tensor([0.5])
    wanted = whole(latents, time, condition)
    velocity = half(latents, time, condition)
    assert velocity.dtype == torch.float32
    # All 30 tokens are kept, so rounding changes no choice; one bf16 rounding is 0.4 %.
    assert (velocity - wanted).norm() < 0.02 * wanted.norm()


def test_new_network_starts_at_velocity_zero_and_learns(generator: torch.Generator) -> None:
    dit = DiT(small_config())
    condition = random_condition(2, generator=generator)
    latents = torch.randn(2, 4, 8, 12, generator=generator)
    velocity = dit(latents, torch.tensor([0.1, 0.6]), condition)
    assert torch.equal(velocity, torch.zeros_like(latents))
    (velocity - latents).square().mean().backward()
    assert dit.final.linear.weight.grad.abs().max() > 0


def test_new_matrices_are_spread_as_xavier_says() -> None:
    torch.manual_seed(0)
    layer = DiT(small_config()).layers[0]
    # Uniform numbers of at most sqrt(6 / (rows + columns)); gate and up are matrices of their own.
    for matrix, (rows, columns) in (
        (layer.attention.q_proj.weight, (48, 48)),
        (layer.ffn.gate_up_proj.weight, (128, 48)),
        (layer.sampler.image_proj.weight, (48, 40)),
    ):
        bound = (6 / (rows + columns)) ** 0.5
        assert 0.98 * bound < matrix.abs().max().item() <= bound


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latents": (1, 4, 7, 12), "source": (1, 4, 7, 12)}, "multiples of 2"),
        ({"source": (1, 4, 8, 10)}, "resize the source image"),
        ({"image": (1, 9, 40)}, "9 tokens, and every layer keeps 10"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    dit: DiT, generator: torch.Generator, changes: dict[str, tuple[int, ...]], message: str
) -> None:
    values = {name: torch.zeros(shape) for name, shape in changes.items()}
    latents = values.pop("latents", torch.zeros(1, 4, 8, 12))
    condition = random_condition(1, generator=generator)._replace(**values)
    with pytest.raises(RequestError, match=message):
        dit(latents, torch.tensor([0.5]), condition)


def test_heads_that_cannot_turn_in_two_directions_are_refused() -> None:
    with pytest.raises(ConfigError, match="half with the column"):
        replace(small_config(), hidden_size=40)


def test_turns_alternate_between_row_and_column() -> None:
    angles = grid_turns(2, 3, 8, torch.device("cpu")).angle()
    place = 1 * 3 + 2  # row 1, column 2
    torch.testing.assert_close(angles[place], torch.tensor([1.0, 2.0, 0.01, 0.02]))


@pytest.mark.parametrize(
    ("num_tokens", "base", "scale"), [(36, None, 0.25), (36, 36, 0.25), (6, 36, 0.125**0.5 / 2)]
)
def test_scale_follows_the_logarithm_of_the_tokens(
    num_tokens: int, base: int | None, scale: float
) -> None:
    assert softmax_scale(num_tokens, 16, base) == pytest.approx(scale)
