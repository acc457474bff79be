import pytest
import torch

from tests.train.made_samples import CONFIG, copies, picture, pictures, text, tiny_model
from unimoe.train.batches import train_batch
from unimoe.train.losses import Tally, forward_loss, num_scored


def losses_of(rows):
    model = tiny_model().eval()
    batch = train_batch(rows, 32, CONFIG)
    with torch.no_grad():
        return model, batch, forward_loss(model, batch, with_z=True)


def test_the_loss_is_the_models_own_for_the_same_rows():
    model, batch, loss = losses_of([list(copies(4)), list(pictures(3))])
    own = model(**batch.batch.model_inputs()).loss
    torch.testing.assert_close(loss.text_sum / num_scored(batch), own.text)
    torch.testing.assert_close(loss.balance, own.balance)


def test_a_sample_has_the_same_loss_alone_and_among_others():
    _, _, together = losses_of([[text(1, 2, 3), picture(1.0, 60), text(7, 8)]])
    alone = [losses_of([[sample]])[2] for sample in (text(1, 2, 3), picture(1.0, 60), text(7, 8))]
    wanted = torch.cat([loss.token_losses for loss in alone])
    # Sums of another order: float32 keeps six digits of losses near 6.
    torch.testing.assert_close(together.token_losses, wanted, rtol=1e-5, atol=1e-5)


def test_losses_are_counted_by_task_and_modality():
    model, batch, loss = losses_of(
        [[text(1, 2, 3, answer=2), picture(1.0, 60)], [text(7, 8, task="add")]]
    )
    tally = Tally()
    tally.add(batch, loss, model)
    record = tally.record()
    copy, see, add = loss.token_losses[:2].mean(), loss.token_losses[2], loss.token_losses[3]
    assert record["by_task"] == {
        "add": pytest.approx(float(add), abs=1e-5),
        "copy": pytest.approx(float(copy), abs=1e-5),
        "see": pytest.approx(float(see), abs=1e-5),
    }
    assert record["by_modality"]["image"] == pytest.approx(float(see), abs=1e-5)
    assert (record["samples"], record["tokens"], record["scored"]) == (3, 12, 4)
    assert record["fill"] == round(12 / 64, 4)


def test_routed_and_null_experts_are_counted_on_real_tokens_only():
    model, batch, loss = losses_of([[text(1, 2, 3)]])
    tally = Tally()
    tally.add(batch, loss, model)
    router = CONFIG.core.moe.router
    taken = torch.stack([layer.mask[:3] for layer in loss.routing]).float()
    routed = float(taken[..., : router.num_routed].sum(-1).mean())
    null = float(taken[..., router.num_routed : router.num_dynamic].sum(-1).mean())
    assert tally.record()["experts_per_token"] == pytest.approx(routed, abs=1e-4)
    assert tally.record()["null_share"] == pytest.approx(null / (routed + null), abs=1e-4)


def test_tokens_are_grouped_by_what_they_stand_for():
    _, _, loss = losses_of([[picture(1.0, 60)]])
    assert loss.groups[0, :8].tolist() == [0, 1, 1, 1, 1, 0, 4, -1]
