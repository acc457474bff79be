import pytest
import torch

from unimoe.errors import ConfigError
from unimoe.heads.painter import Painter
from unimoe.recipes.tiny_drawing import PAINTER_OF_TINY
from unimoe.train.learn_painter import (
    DrawingBatch,
    DrawingBatches,
    PictureBatches,
    drawing_batch,
    drawing_objective,
    rebuilding_objective,
)
from unimoe.train.paintings import Paintings

SHARES = {"names": 1.0, "remove": 3.0}


@pytest.fixture
def painter() -> Painter:
    torch.manual_seed(0)
    painter = Painter(PAINTER_OF_TINY)
    painter.vae.fit(torch.rand(16, 3, 16, 16))
    for parameter in painter.dit.parameters():
        parameter.data = parameter.data + 0.1 * torch.randn_like(parameter)
    return painter


@pytest.fixture
def paintings() -> Paintings:
    """Three samples of names, one edit."""
    random = torch.Generator().manual_seed(0)
    return Paintings(
        tasks=("names", "names", "names", "remove"),
        prompts=torch.tensor([0, 1, 1, 2]),
        sources=torch.tensor([-1, -1, -1, 3]),
        targets=torch.tensor([0, 1, 2, 0]),
        states=torch.randn(3, 5, 64, generator=random).half(),
        latents=torch.randn(4, 4, 4, 4, generator=random).half(),
    )


@pytest.fixture
def edit(paintings: Paintings) -> DrawingBatch:
    """The edit, which sees its prompt and its source."""
    batch = drawing_batch(paintings, torch.tensor([3]), torch.Generator().manual_seed(5))
    return batch._replace(sees_prompt=torch.tensor([True]), sees_source=torch.tensor([True]))


def loss_of(painter: Painter, batch: DrawingBatch) -> float:
    return float(drawing_objective(painter, batch).total.detach())


def test_the_loss_depends_on_the_prompt_that_is_seen(painter: Painter, edit: DrawingBatch) -> None:
    other = edit._replace(states=edit.states.flip(2))
    blind = edit._replace(sees_prompt=torch.tensor([False]))

    assert loss_of(painter, other) != loss_of(painter, edit)
    assert loss_of(painter, blind) != loss_of(painter, edit)


def test_noise_stands_for_a_source_that_is_not_seen(painter: Painter, edit: DrawingBatch) -> None:
    nothing = edit._replace(sees_source=torch.tensor([False]))

    assert loss_of(painter, nothing) != loss_of(painter, edit)
    assert loss_of(painter, nothing._replace(source=edit.target)) == loss_of(painter, nothing)


def test_the_draft_stands_for_a_source_that_is_not_there(
    painter: Painter, edit: DrawingBatch
) -> None:
    without = edit._replace(has_source=torch.tensor([False]))
    _, draft = painter.read(painter.normalised(edit.states) + edit.state_noise)

    assert loss_of(painter, without) == loss_of(painter, edit._replace(source=draft.detach()))


def test_without_its_prompt_a_sample_knows_nothing_of_the_states(
    painter: Painter, edit: DrawingBatch
) -> None:
    unseen = edit._replace(has_source=torch.tensor([False]), sees_prompt=torch.tensor([False]))

    assert loss_of(painter, unseen) == loss_of(painter, unseen._replace(states=-edit.states))


def test_projectors_and_dit_learn_and_the_autoencoder_does_not(
    painter: Painter, edit: DrawingBatch
) -> None:
    drawing_objective(painter, edit).total.backward()

    assert painter.projector.content.weight.grad is not None
    assert painter.projector.task.weight.grad is not None
    assert painter.dit.patch_embedder.weight.grad is not None
    assert painter.vae.decoder.conv_in.weight.grad is None


def test_a_batch_is_the_same_whenever_it_is_asked_for(paintings: Paintings) -> None:
    batches = DrawingBatches(paintings, SHARES, 6, seed=1)

    first, again, other = batches(4), batches(4), batches(5)

    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.start, other.start)


def test_tasks_come_by_their_shares(paintings: Paintings) -> None:
    batch = DrawingBatches(paintings, SHARES, 400, seed=0)(0)

    # 3 of 4 are edits: 300 with a deviation of 9.
    assert 260 < int(batch.has_source.sum()) < 340


def test_prompts_are_dropped_now_and_then_and_sources_with_some(paintings: Paintings) -> None:
    batch = DrawingBatches(paintings, SHARES, 2000, seed=0)(0)

    assert 0.09 < float((~batch.sees_prompt).float().mean()) < 0.15
    assert 0.01 < float((~batch.sees_source).float().mean()) < 0.03
    assert not bool((batch.sees_prompt & ~batch.sees_source).any())


def test_what_has_a_source_is_learned_at_earlier_times(paintings: Paintings) -> None:
    batch = DrawingBatches(paintings, SHARES, 2000, seed=0)(0)

    of_source, of_words = (batch.times[batch.has_source == has] for has in (True, False))

    # Half of them before 1/2 to the power.
    assert 0.09 < float(of_source.median()) < 0.17
    assert 0.28 < float(of_words.median()) < 0.43


def test_a_task_without_samples_is_refused(paintings: Paintings) -> None:
    with pytest.raises(ConfigError, match="'derain'"):
        DrawingBatches(paintings, {"names": 1.0, "derain": 1.0}, 6, seed=0)


def test_pictures_to_be_rebuilt_are_those_given_or_their_mirror_images(painter: Painter) -> None:
    picture = torch.randint(0, 255, (1, 3, 16, 16), dtype=torch.uint8)
    batch = PictureBatches(picture, 8, seed=0)(0)

    wanted = picture.float() / 255
    is_plain = [torch.equal(each, wanted[0]) for each in batch]
    is_mirrored = [torch.equal(each, wanted.flip(3)[0]) for each in batch]
    assert all(a or b for a, b in zip(is_plain, is_mirrored, strict=True))
    assert any(is_plain)
    assert any(is_mirrored)
    assert 0 < float(rebuilding_objective(painter.vae, batch).total.detach()) < 2
