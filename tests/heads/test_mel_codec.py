import numpy as np
import pytest
import soxr
import torch
from heads.made_speakers import SMALL_CODEC, small_speaker

from unimoe.errors import MediaError, RequestError
from unimoe.heads.mel import mel_filters
from unimoe.heads.mel_codec import MelCodec


@pytest.fixture(scope="module")
def codec() -> MelCodec:
    return small_speaker().codec


def test_every_started_code_has_one(codec):
    for samples, codes in ((1, 1), (600, 1), (601, 2), (24_000, 40)):
        found = codec.encode(torch.randn(2, samples))
        assert found.shape == (2, codes)
        assert codec.decode(found).shape == (2, codes * 600)


def test_a_code_is_the_nearest_row(codec):
    vectors = torch.randn(1, 50, SMALL_CODEC.code_width)
    distances = (vectors[0, :, None] - codec.codebook).square().sum(-1)
    assert torch.equal(codec.nearest_codes(vectors)[0], distances.argmin(-1))


def test_a_piece_with_its_neighbours_sounds_as_in_the_whole(codec):
    codes = torch.randint(SMALL_CODEC.num_codes, (1, 120))
    whole, reach = codec.decode(codes), codec.reach
    piece = codec.decode(codes[:, 50 - reach : 60 + reach])
    inner = piece[:, reach * 600 : -reach * 600]
    torch.testing.assert_close(inner, whole[:, 50 * 600 : 60 * 600], atol=1e-5, rtol=0)


def test_reach_is_no_longer_than_it_must_be(codec):
    codes = torch.randint(SMALL_CODEC.num_codes, (1, 120))
    whole, reach = codec.decode(codes), codec.reach
    changed = codes.clone()
    changed[0, 60 + reach] = (changed[0, 60 + reach] + 1) % SMALL_CODEC.num_codes
    differs = (codec.decode(changed) != whole)[0].nonzero()
    assert 60 * 600 < int(differs[0]) < 62 * 600


def test_sound_of_16_and_24_khz_has_the_same_spectrum(codec):
    times = np.arange(48_000) / 24_000
    fine = (0.3 * np.sin(2 * np.pi * (200 + 900 * times) * times)).astype(np.float32)
    coarse = soxr.resample(soxr.resample(fine, 24_000, 16_000), 16_000, 24_000)
    spectra = [codec.encoder.log_mel(torch.from_numpy(each)[None]) for each in (fine, coarse)]
    assert (spectra[0] - spectra[1])[:, 8:-8].abs().max() < 0.02


def test_a_tone_is_loudest_in_its_own_triangle():
    filters = mel_filters(40, 1024, 24_000, (0.0, 12_000.0))
    spectrum = torch.zeros(513)
    spectrum[round(1000 / (24_000 / 1024))] = 1
    peak_mel = 2595 * np.log10(1 + 1000 / 700) / (2595 * np.log10(1 + 12_000 / 700)) * 41 - 1
    assert abs(int((spectrum @ filters).argmax()) - peak_mel) <= 1


@pytest.mark.parametrize("sound", [torch.zeros(1, 0), torch.full((1, 700), torch.nan)])
def test_what_is_no_sound_is_refused(codec, sound):
    with pytest.raises(MediaError):
        codec.encode(sound)


@pytest.mark.parametrize("codes", [[], [0, 32], [-1]])
def test_codes_it_does_not_have_are_refused(codec, codes):
    with pytest.raises(RequestError):
        codec.decode(torch.tensor([codes], dtype=torch.long))
