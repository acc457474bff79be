"""Flow matching: recorded losses, gradients and trajectories; seeds and guidance."""

import pytest
import torch
from torch import Tensor

from tests.heads.golden_image import (
    KEPT,
    checkpoint_of,
    condition_of,
    guidance_of,
    random_condition,
    recorded_noise,
    tensors_in,
)
from unimoe.config import GuidanceConfig
from unimoe.errors import ConfigError
from unimoe.heads.dit import Condition, DiT
from unimoe.heads.flow import (
    FlowDraws,
    SamplingDraws,
    branch_weights,
    draw_flow,
    draw_sampling,
    euler_states,
    flow_loss,
    guided_states,
    heun_states,
)
from unimoe.heads.image_weights import load_dit

LEARNED = {
    "x_embedder.weight": "patch_embedder.weight",
    "layers.0.out_conv.4.weight": "layers.0.sampler.score.4.weight",
}
GIVEN = {
    "prompt_feats": "prompt",
    "prompt_pooled_feats": "task",
    "input_clip_x": "image",
}


@pytest.fixture(scope="module")
def dit(tmp_path_factory: pytest.TempPathFactory) -> DiT:
    directory = tmp_path_factory.mktemp("dit")
    return load_dit(checkpoint_of(tensors_in("dit"), directory), num_kept_tokens=KEPT)


def three_branches(batch: int) -> Condition:
    generator = torch.Generator().manual_seed(11)
    return random_condition(3 * batch, generator=generator)


def branches_of(images: list[int], branches: Condition) -> Condition:
    """Rows of some images out of all branches."""
    return Condition(*(part.unflatten(0, (3, -1))[:, images].flatten(0, 1) for part in branches))


def last_state(dit: DiT, branches: Condition, seeds: list[int], guidance: GuidanceConfig) -> Tensor:
    draws = draw_sampling(dit, seeds, size=(8, 12), num_tokens=30, num_steps=guidance.num_steps)
    return list(guided_states(dit, branches, draws, guidance))[-1]


@pytest.mark.parametrize("name", ["euler4_no_gumbel", "euler4_gumbel"])
def test_every_state_on_the_way_is_the_recorded_one(dit: DiT, name: str) -> None:
    case = tensors_in(name)
    draws = SamplingDraws(case["z"][:1], recorded_noise(case))
    states = torch.stack(list(guided_states(dit, condition_of(case), draws, guidance_of(name))))
    # Recorded in float32 over four steps, of values up to 10.
    close = {"rtol": 0, "atol": 5e-4}
    torch.testing.assert_close(states, case["expected.trajectory"][:, :1], **close)
    torch.testing.assert_close(states[-1], case["expected.final"], **close)


@pytest.mark.parametrize("name", ["flow_loss_no_gumbel", "flow_loss_gumbel"])
def test_loss_and_gradients_are_the_recorded_ones(dit: DiT, name: str) -> None:
    case = tensors_in(name)
    given = {field: case[key].clone().requires_grad_(True) for key, field in GIVEN.items()}
    condition = condition_of(case)._replace(**given)
    noise = recorded_noise(case)
    tokens = None if noise is None else noise[0].flatten(1, 2)
    draws = FlowDraws(case["t"], case["noise_x0"], tokens)
    dit.zero_grad()
    loss = flow_loss(dit, case["target_x1"][None], condition, draws)
    loss.backward()
    torch.testing.assert_close(loss.detach(), case["expected.loss"], rtol=0, atol=1e-5)
    gradients = {key: given[field].grad for key, field in GIVEN.items()}
    gradients["x_embedder.weight"] = dit.patch_embedder.weight.grad
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, case[f"grad.{key}"], rtol=1e-4, atol=2e-6)
    # The RMS norm behind the choice undoes its weight but for the epsilon, so this gradient is what
    # rounding leaves of 4e-9: the recorded one is itself 1.2e-10 away from float64.
    score = dit.layers[0].sampler.score[4].weight.grad
    recorded = case["grad.layers.0.out_conv.4.weight"]
    torch.testing.assert_close(score, recorded, rtol=0, atol=2e-10)


def test_same_seed_same_image_and_another_seed_another(dit: DiT) -> None:
    guidance = GuidanceConfig(num_steps=3, base_tokens=36)
    first = last_state(dit, three_branches(1), [5], guidance)
    torch.manual_seed(99)  # whatever else is drawn in between
    assert torch.equal(first, last_state(dit, three_branches(1), [5], guidance))
    assert not torch.allclose(first, last_state(dit, three_branches(1), [6], guidance), atol=0.1)


def test_batch_of_two_equals_two_single_runs(dit: DiT) -> None:
    guidance = GuidanceConfig(num_steps=3, image_scale=1.3, base_tokens=36)
    branches = three_branches(2)
    both = last_state(dit, branches, [5, 6], guidance)
    for image, seed in enumerate([5, 6]):
        alone = last_state(dit, branches_of([image], branches), [seed], guidance)
        # Products of other sizes round differently: measured 2e-5, of values up to 20.
        torch.testing.assert_close(both[image : image + 1], alone, rtol=1e-4, atol=1e-4)


def test_guidance_of_one_equals_no_guidance(dit: DiT) -> None:
    guidance = GuidanceConfig(num_steps=3, text_scale=1.0, image_scale=1.0, base_tokens=None)
    branches = three_branches(1)
    draws = draw_sampling(dit, [5], size=(8, 12), num_tokens=30, num_steps=3)
    first_branch = Condition(*(part[:1] for part in branches))

    @torch.no_grad()
    def plain(step: int, time: Tensor, latents: Tensor) -> Tensor:
        return dit(latents, time.expand(1), first_branch, noise=draws.tokens[step, :, 0])

    unguided = list(euler_states(plain, draws.start, 3))
    guided = list(guided_states(dit, branches, draws, guidance))
    for state, wanted in zip(guided, unguided, strict=True):
        torch.testing.assert_close(state, wanted, rtol=0, atol=1e-6)


def test_skipping_branches_without_weight_changes_nothing(dit: DiT) -> None:
    branches = three_branches(1)
    skipping = GuidanceConfig(num_steps=2, text_scale=4.0, image_scale=1.0, base_tokens=36)
    # So little weight that it rounds away, but the third branch is run.
    running = GuidanceConfig(num_steps=2, text_scale=4.0, image_scale=1.0 + 1e-9, base_tokens=36)
    assert branch_weights(skipping)[2] == 0.0 != branch_weights(running)[2]
    torch.testing.assert_close(
        last_state(dit, branches, [5], skipping),
        last_state(dit, branches, [5], running),
        rtol=1e-5,
        atol=1e-5,
    )


def test_branches_without_weight_are_not_run(dit: DiT) -> None:
    rows = []
    hook = dit.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    for image_scale, text_scale in ((1.3, 4.0), (1.0, 4.0), (1.0, 1.0)):
        guidance = GuidanceConfig(
            num_steps=1, text_scale=text_scale, image_scale=image_scale, base_tokens=36
        )
        last_state(dit, three_branches(1), [5], guidance)
    hook.remove()
    assert rows == [3, 2, 1]


@pytest.mark.parametrize(
    ("text", "image", "weights"),
    [
        (4.0, 1.0, (4.0, -3.0, 0.0)),
        (1.0, 1.0, (1.0, 0.0, 0.0)),
        (4.0, 1.5, (4.0, -2.5, -0.5)),
    ],
)
def test_branch_weights_add_up_to_one(
    text: float, image: float, weights: tuple[float, float, float]
) -> None:
    guidance = GuidanceConfig(text_scale=text, image_scale=image)
    assert branch_weights(guidance) == weights
    assert sum(weights) == 1


def test_euler_walks_a_constant_velocity_exactly() -> None:
    states = list(euler_states(lambda *_: torch.tensor([2.0]), torch.tensor([1.0]), 4))
    assert [state.item() for state in states] == [1.0, 1.5, 2.0, 2.5, 3.0]


def test_heun_follows_a_growing_velocity_far_closer_than_euler() -> None:
    def velocity(step: int, time: Tensor, state: Tensor) -> Tensor:
        return state  # whose way is the exponential function

    start = torch.ones(1, dtype=torch.float64)
    euler, heun = (
        float(list(follow(velocity, start, 20))[-1]) for follow in (euler_states, heun_states)
    )

    exact = float(torch.tensor(1.0, dtype=torch.float64).exp())
    # The last step is Euler's, so half a step's square is left: e * 0.05^2 / 2 = 0.0034.
    assert abs(heun - exact) < 0.006 < 0.06 < abs(euler - exact)


def test_heun_asks_at_both_ends_of_all_steps_but_the_last() -> None:
    asked: list[tuple[int, float]] = []

    def velocity(step: int, time: Tensor, state: Tensor) -> Tensor:
        asked.append((step, round(float(time), 3)))
        return torch.zeros_like(state)

    list(heun_states(velocity, torch.zeros(1), 2))

    assert asked == [(0, 0.0), (0, 0.5), (1, 0.5)]


def test_velocity_is_asked_for_at_the_beginning_of_each_step() -> None:
    asked = []

    def velocity_at(step: int, time: Tensor, state: Tensor) -> Tensor:
        asked.append((step, time.item()))
        return state

    assert list(euler_states(velocity_at, torch.tensor([1.0]), 2))[-1].item() == 1.5**2
    assert asked == [(0, 0.0), (1, 0.5)]


def test_drawn_noise_of_an_image_depends_on_its_seed_alone(dit: DiT) -> None:
    def drawn(seeds: list[int]) -> SamplingDraws:
        return draw_sampling(dit, seeds, size=(8, 12), num_tokens=30, num_steps=2)

    together, alone = drawn([1, 2]), drawn([2])
    assert together.start.shape == (2, 4, 8, 12)
    assert together.tokens.shape == (2, 3, 2, 2, 30)
    assert torch.equal(together.start[1:], alone.start)
    assert torch.equal(together.tokens[:, :, :, 1:], alone.tokens)


def test_token_noise_is_gumbel_and_times_are_uniform(dit: DiT) -> None:
    torch.manual_seed(0)
    draws = draw_flow(dit, torch.zeros(2000, 4, 2, 2), num_tokens=30)
    assert draws.tokens.shape == (3, 2000, 30)
    # Mean and deviation of a standard Gumbel variable: Euler's constant and pi / sqrt(6).
    assert draws.tokens.mean().item() == pytest.approx(0.5772, abs=0.01)
    assert draws.tokens.std().item() == pytest.approx(1.2825, abs=0.01)
    assert draws.times.mean().item() == pytest.approx(0.5, abs=0.02)
    assert 0 <= draws.times.min() < 0.01 < 0.99 < draws.times.max() <= 1


@pytest.mark.parametrize("field", ["num_steps", "base_tokens", "guided_channels"])
def test_impossible_guidance_is_refused(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        GuidanceConfig(**{field: -1})


def test_loss_of_the_true_velocity_is_zero(dit: DiT, monkeypatch: pytest.MonkeyPatch) -> None:
    target = torch.ones(1, 4, 8, 12)
    draws = draw_flow(dit, target, num_tokens=30)
    seen = []

    def knowing(latents: Tensor, times: Tensor, *_: object, **__: object) -> Tensor:
        seen.append(latents)
        return target - draws.start

    monkeypatch.setattr(dit, "forward", knowing)
    condition = random_condition(1, generator=torch.Generator().manual_seed(1))
    assert flow_loss(dit, target, condition, draws).item() == 0.0
    time = draws.times.item()
    torch.testing.assert_close(seen[0], time * target + (1 - time) * draws.start)
