import pytest
import torch

from unimoe.config import VAEConfig
from unimoe.errors import ConfigError, RequestError
from unimoe.heads.vae import PictureVAE, psnr

CONFIG = VAEConfig(latent_channels=4, widths=(8, 8), shuffled_side=2, norm_groups=2)


def pictures(number: int, seed: int = 0) -> torch.Tensor:
    """Smooth ones: a few waves of each picture's own colours."""
    random = torch.Generator().manual_seed(seed)
    waves = torch.sin(torch.linspace(0, 3, 16))
    colours = torch.rand(number, 3, 1, 1, generator=random)
    return (colours * (0.5 + 0.5 * waves[:, None] * waves)).clamp(0, 1)


@pytest.fixture
def vae() -> PictureVAE:
    torch.manual_seed(0)
    vae = PictureVAE(CONFIG)
    vae.fit(pictures(64))
    return vae


def test_an_untrained_decoder_adds_nothing_to_the_components(vae: PictureVAE) -> None:
    latents = vae.encode(pictures(2, seed=1))

    assert torch.equal(vae.refined(latents), vae.linear(latents))


def test_components_alone_come_near_pictures_like_those_fitted(vae: PictureVAE) -> None:
    new = pictures(8, seed=1)

    assert psnr(vae.linear(vae.encode(new)), new).min() > 25


def test_latents_have_mean_zero_and_variance_one_and_fall_in_strength(vae: PictureVAE) -> None:
    latents = vae.encode(pictures(64))

    assert latents.mean((0, 2, 3)).abs().max() < 1e-3
    assert latents.square().mean() == pytest.approx(1.0, abs=1e-2)
    deviations = latents.std((0, 2, 3))
    assert bool((deviations[:-1] >= deviations[1:] - 1e-4).all())


def test_a_latent_stands_for_its_own_block_alone(vae: PictureVAE) -> None:
    before = pictures(1)
    after = before.clone()
    after[:, :, :4, 4:8] = 0

    moved = (vae.encode(after) - vae.encode(before)).abs().sum(1)[0] > 1e-6

    assert moved.nonzero().tolist() == [[0, 1]]


def test_the_decoder_learns_and_the_components_do_not(vae: PictureVAE) -> None:
    vae.loss(pictures(2)).backward()

    assert vae.decoder.conv_out.weight.grad is not None
    assert {name for name, _ in vae.named_parameters() if not name.startswith("decoder.")} == set()


def test_a_picture_that_blocks_do_not_tile_is_refused(vae: PictureVAE) -> None:
    with pytest.raises(RequestError, match="multiples of 4"):
        vae.encode(torch.zeros(1, 3, 18, 16))


def test_widths_must_divide_into_groups() -> None:
    with pytest.raises(ConfigError, match="no multiple of norm_groups"):
        VAEConfig(widths=(9,), norm_groups=2)


def test_psnr_of_an_error_of_a_tenth_is_20_db() -> None:
    assert psnr(torch.full((1, 3, 4, 4), 0.6), torch.full((1, 3, 4, 4), 0.5)).item() == (
        pytest.approx(20.0, abs=1e-3)
    )
