import math

import pytest
import torch

from tests.heads.made_codecs import RECORDED
from unimoe.heads.vocos import SpectrumHead, VocosBackbone, overlap_add


@pytest.mark.parametrize(("window_samples", "hop"), [(240, 60), (16, 8), (12, 4), (10, 10)])
def test_inverse_transform_gives_back_the_sound_whose_spectrum_it_gets(
    window_samples: int, hop: int
) -> None:
    torch.manual_seed(0)
    num_frames, trim = 9, (window_samples - hop) // 2
    sound = torch.randn(2, num_frames * hop)
    window = torch.hann_window(window_samples) + 0.01
    padded = torch.nn.functional.pad(sound, (trim, trim))
    frames = padded.unfold(-1, window_samples, hop) * window
    back = overlap_add(torch.fft.rfft(frames), window, hop)
    torch.testing.assert_close(back, sound, rtol=0, atol=1e-4)


def test_magnitude_is_bounded() -> None:
    head = SpectrumHead(RECORDED)
    head.out.weight.data.zero_()
    num_bins, states = RECORDED.window_samples // 2 + 1, torch.zeros(1, 5, RECORDED.hidden_size)
    with torch.no_grad():
        head.out.bias[num_bins:] = torch.linspace(0.0, 300.0, num_bins)  # phases
        head.out.bias[:num_bins] = math.log(100.0)
        loud = head(states)
        head.out.bias[:num_bins] = 50.0
        louder = head(states)
    assert loud.abs().max() > 1
    torch.testing.assert_close(loud, louder, rtol=0, atol=1e-3)


def test_the_backbone_hears_all_frames_and_picks_its_norm() -> None:
    torch.manual_seed(0)
    backbone = VocosBackbone(RECORDED)
    features = torch.randn(1, RECORDED.code_width, 60)
    changed = features.clone()
    changed[..., -1] += 5.0
    with torch.no_grad():
        states = backbone(features, 0)
        assert not torch.allclose(states[:, 0], backbone(changed, 0)[:, 0], atol=1e-5)
        assert not torch.allclose(states, backbone(features, 1), atol=1e-3)
