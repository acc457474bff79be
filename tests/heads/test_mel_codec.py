import numpy as np
import pytest
import soxr
import torch
from heads.made_speakers import SMALL_CODEC, small_speaker

from unimoe.errors import MediaError, RequestError
from unimoe.heads.code_stream import CodeStream
from unimoe.heads.mel import mel_filters
from unimoe.heads.mel_codec import MelCodec, Voice
from unimoe.train.pitch import pitch_of


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


def test_pieces_of_any_length_are_the_whole(codec):
    codes = torch.randint(SMALL_CODEC.num_codes, (130,)).tolist()
    whole = codec.decode(torch.tensor([codes]))[0].detach()
    stream, pieces = CodeStream(codec), []
    for number, code in enumerate(codes):
        stream.push(code)
        if number % 13 == 0 and stream.num_ready:
            pieces.append(stream.piece(stream.num_ready))
    pieces.append(stream.piece(stream.num_left))
    assert len(pieces) > 5
    error = torch.cat(pieces) - whole
    assert float(error.square().mean() / whole.square().mean()) < 1e-6  # -60 dB


def test_pulses_have_the_pitch_that_is_asked_for(codec):
    frames = 320
    voice = Voice(torch.full((1, frames), 200.0), torch.ones(1, frames, dtype=torch.bool))
    pulses = codec.decoder._pulses(voice, None)[0]
    peaks = (pulses > 0.9 * pulses.max()).nonzero().flatten()
    # a pulse between two samples stands in both
    assert set(torch.diff(peaks).tolist()) <= {1, 119, 120}
    found = pitch_of(pulses[None] * 0.1, SMALL_CODEC.hop_samples, 24_000)
    torch.testing.assert_close(found.hz[:, 5:-5], voice.hz[:, 5:-5], rtol=0.01, atol=0)
    assert found.is_voiced[:, 5:-5].all()


def test_a_rising_pitch_rises_without_a_break(codec):
    frames = 320
    hz = torch.linspace(100, 300, frames)[None]
    voice = Voice(hz, torch.ones(1, frames, dtype=torch.bool))
    pulses = codec.decoder._pulses(voice, None)[0]
    # by a sum over samples of a pitch that is linear between the middles of frames
    middles = torch.arange(frames) * 150.0 + 74.5
    places = torch.arange(frames * 150).double()
    track = np.interp(places, middles, hz[0])
    slow = np.cumsum(track / 24_000) - track[0] / 48_000
    wanted = [int(np.argmax(slow >= turn)) for turn in range(2, int(slow[-1]))]
    peaks = [int(pulses[p - 3 : p + 4].argmax()) - 3 for p in wanted]
    assert max(map(abs, peaks)) <= 1


def test_a_noise_has_no_pitch():
    found = pitch_of(0.1 * torch.randn(1, 24_000), 150, 24_000)
    assert found.is_voiced.float().mean() < 0.1


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
