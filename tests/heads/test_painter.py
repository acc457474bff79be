import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from unimoe.config import PainterConfig
from unimoe.errors import ConfigError, RequestError
from unimoe.heads import painter as painter_module
from unimoe.heads.dit import Condition, DiT
from unimoe.heads.head_files import read_head, write_head
from unimoe.heads.painter import _CHANGED as CHANGED
from unimoe.heads.painter import PAINTER, ImageProgress, Painter, guessed_velocity
from unimoe.recipes.tiny_drawing import PAINTER_OF_TINY as CONFIG


@pytest.fixture(scope="module")
def painter() -> Painter:
    torch.manual_seed(0)
    painter = Painter(CONFIG)
    painter.vae.fit(torch.rand(32, 3, 16, 16))
    for parameter in painter.parameters():
        parameter.data = parameter.data + 0.05 * torch.randn_like(parameter)
    return painter.eval()


@pytest.fixture(scope="module")
def states() -> torch.Tensor:
    return torch.randn(5, 64, generator=torch.Generator().manual_seed(1))


def drawn(painter: Painter, states: torch.Tensor, **options: object) -> np.ndarray:
    *_, picture = painter.draw(states[1:], states[:1], **options)  # type: ignore[arg-type]
    assert isinstance(picture, np.ndarray)
    return picture


def test_progress_comes_for_every_step_and_the_picture_last(
    painter: Painter, states: torch.Tensor
) -> None:
    *progress, picture = painter.draw(states[1:], states[:1], steps=3)

    assert progress == [ImageProgress(step, 3) for step in range(4)]
    assert picture.shape == (16, 16, 3)
    assert picture.dtype == np.uint8


def test_a_seed_gives_the_same_picture_and_another_one_another(
    painter: Painter, states: torch.Tensor
) -> None:
    first, again = (drawn(painter, states, steps=2, seed=1) for _ in range(2))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, drawn(painter, states, steps=2, seed=2))


def test_states_of_another_prompt_draw_another_picture(
    painter: Painter, states: torch.Tensor
) -> None:
    other = states.flip(1)

    assert not np.array_equal(drawn(painter, states, steps=2), drawn(painter, other, steps=2))


def test_a_guessed_velocity_is_the_regression_on_what_is_seen() -> None:
    generator = torch.Generator().manual_seed(0)
    source, added, noise = torch.randn(3, 200_000, generator=generator).double()
    image = source + CHANGED**0.5 * added
    for time in (0.0, 0.3, 0.6, 1.0):
        latents = time * image + (1 - time) * noise
        seen = torch.stack([source, latents], dim=1)
        weights = torch.linalg.lstsq(seen, (image - noise)[:, None]).solution

        shape = (-1, 1, 1, 1)
        guessed = guessed_velocity(
            latents[:5].view(shape), torch.full((5,), time), source[:5].view(shape)
        )

        torch.testing.assert_close(guessed.flatten(), (seen @ weights)[:5, 0], atol=0.03, rtol=0)


def test_a_velocity_is_what_the_network_adds_to_the_guessed_one(painter: Painter) -> None:
    dit = painter.dit
    latents, source = torch.randn(2, *painter.draft.shape)
    width = CONFIG.dit.image_width
    condition = Condition(
        source=source[None],
        image=torch.zeros(1, CONFIG.dit.num_kept_tokens, width),
        prompt=torch.randn(1, 3, CONFIG.dit.prompt_width),
        prompt_mask=torch.ones(1, 3, dtype=torch.bool),
        task=torch.randn(1, CONFIG.dit.task_width),
    )
    times = torch.tensor([0.3])

    added = DiT.forward(dit, latents[None], times, condition)

    assert added.abs().max() > 0
    wanted = added + guessed_velocity(latents[None], times, source[None])
    torch.testing.assert_close(dit(latents[None], times, condition), wanted)


def test_a_source_picture_changes_what_is_drawn(painter: Painter, states: torch.Tensor) -> None:
    black = np.zeros((16, 16, 3), np.uint8)

    with_source = drawn(painter, states, steps=2, source=black)

    assert not np.array_equal(drawn(painter, states, steps=2), with_source)


def test_a_draft_of_the_words_stands_where_no_source_is_given(
    painter: Painter, states: torch.Tensor
) -> None:
    other = Painter(CONFIG).eval()
    other.load_state_dict(painter.state_dict())
    other.draft.out.bias.data += 1.0
    white = np.full((16, 16, 3), 255, np.uint8)

    assert not np.array_equal(drawn(painter, states, steps=2), drawn(other, states, steps=2))
    assert np.array_equal(
        drawn(painter, states, steps=2, source=white), drawn(other, states, steps=2, source=white)
    )


def test_a_repair_is_the_mean_of_several_without_guidance(
    painter: Painter, states: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = np.full((16, 16, 3), 90, np.uint8)
    monkeypatch.setattr(painter_module, "is_repaired", lambda drawn, source: True)
    repaired = drawn(painter, states, steps=4, source=source, seed=3)

    # One after the other: two Euler steps of the words as they are.
    monkeypatch.setattr(painter_module, "is_repaired", lambda drawn, source: False)
    monkeypatch.setattr(painter_module, "keep_untouched", lambda drawn, source: drawn)
    latents: list[torch.Tensor] = []
    decode = painter.vae.decode

    def seen(given: torch.Tensor) -> torch.Tensor:
        latents.append(given)
        return decode(given)

    monkeypatch.setattr(painter.vae, "decode", seen)
    for seed in range(3, 11):
        drawn(
            painter, states, steps=2, source=source, guidance_scale=1.0, method="euler", seed=seed
        )
    mean = decode(torch.cat(latents).mean(0, keepdim=True))[0].permute(1, 2, 0)
    wanted = (255 * mean).round().detach().numpy()
    assert np.abs(repaired - wanted).max() <= 1  # of rounding
    assert not np.array_equal(repaired, drawn(painter, states, steps=4, source=source, seed=3))


def test_an_edit_keeps_what_it_did_not_touch(
    painter: Painter, states: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = np.full((16, 16, 3), 90, np.uint8)
    drawings: list[np.ndarray] = []
    monkeypatch.setattr(painter_module, "is_repaired", lambda drawn, source: False)
    monkeypatch.setattr(
        painter_module, "keep_untouched", lambda drawn, source: drawings.append(drawn) or source
    )
    assert np.array_equal(drawn(painter, states, steps=4, source=source), source)
    assert len(drawings) == 1


def test_a_source_of_another_size_is_refused(painter: Painter, states: torch.Tensor) -> None:
    with pytest.raises(RequestError, match="20 x 16 pixels"):
        drawn(painter, states, source=np.zeros((16, 20, 3), np.uint8))


def test_states_of_another_number_are_refused(painter: Painter, states: torch.Tensor) -> None:
    with pytest.raises(RequestError, match="2 states of"):
        drawn(painter, states[:3])


def test_statistics_make_states_of_all_places_alike(painter: Painter) -> None:
    states = 7 + 3 * torch.randn(200, 5, 64)
    fitted = Painter(CONFIG)
    fitted.fit_states(states)

    normal = fitted.normalised(states)

    assert normal.mean(0).abs().max() < 1e-4
    assert normal.std(0).sub(1).abs().max() < 1e-4


def test_a_stored_painter_draws_nearly_the_same(
    painter: Painter, states: torch.Tensor, tmp_path: Path
) -> None:
    write_head(painter, CONFIG, tmp_path, PAINTER)
    loaded = read_head(tmp_path, PAINTER, PainterConfig, Painter)

    assert loaded is not None
    difference = drawn(painter, states, steps=2).astype(int) - drawn(loaded, states, steps=2)
    assert np.abs(difference).mean() < 8  # of 255: int8 rows


def test_autoencoder_and_dit_must_have_the_same_channels() -> None:
    vae = dataclasses.replace(CONFIG.vae, latent_channels=8)
    with pytest.raises(ConfigError, match="8 latent channels"):
        dataclasses.replace(CONFIG, vae=vae)
