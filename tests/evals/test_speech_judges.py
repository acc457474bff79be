"""The judges of sound, with made-up weights in place of their parts."""

import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from tests.evals.made_speech import RATE_HZ, tone
from unimoe.evals.dnsmos import Dnsmos, filled_windows
from unimoe.evals.sphinx import Sphinx
from unimoe.evals.voice_prints import VoicePrints, mean_print, num_windows


@pytest.fixture(scope="module")
def prints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("part")
    torch.manual_seed(0)
    lstm, linear = nn.LSTM(40, 256, 3), nn.Linear(256, 256)
    state = {f"lstm.{name}": value for name, value in lstm.state_dict().items()}
    state |= {f"linear.{name}": value for name, value in linear.state_dict().items()}
    state |= {"similarity_weight": torch.ones(1), "similarity_bias": torch.ones(1)}
    (folder / "resemblyzer").mkdir()
    torch.save({"model_state": state}, folder / "resemblyzer/pretrained.pt")
    return VoicePrints(folder)


@pytest.mark.parametrize(
    ("num_frames", "windows"), [(1, 1), (160, 1), (197, 2), (196, 1), (237, 2), (275, 3)]
)
def test_a_last_window_needs_three_quarters_of_sound(num_frames, windows):
    assert num_windows(num_frames) == windows


def test_prints_have_length_one_and_a_short_sound_one_window(prints):
    found = prints.of([(tone(0.2), RATE_HZ), (tone(3.0), RATE_HZ)])
    assert found.shape == (2, 256)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)


def test_a_quiet_sound_is_raised_first(prints):
    quiet, quieter = prints.of([(tone(loudness=x), RATE_HZ) for x in (0.01, 0.001)])
    np.testing.assert_allclose(quiet, quieter, atol=1e-5)


def test_the_print_of_a_speaker_is_the_direction_of_the_mean():
    mean = mean_print(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32))
    np.testing.assert_allclose(mean, [0.5**0.5] * 2, atol=1e-6)


def test_windows_are_filled_from_the_beginning():
    windows = filled_windows(np.arange(5, dtype=np.float32), 3)
    np.testing.assert_array_equal(windows, [[0, 1, 2], [3, 4, 0]])


def test_a_mark_is_the_polynomial_of_the_third_output(tmp_path):
    mean = helper.make_node("ReduceMean", ["input_1"], ["mean"], axes=[1], keepdims=1)
    third = helper.make_tensor("third", TensorProto.FLOAT, [1, 3], [9.0, 9.0, 2.0])
    graph = helper.make_graph(
        [mean, helper.make_node("MatMul", ["mean", "third"], ["marks"])],
        "marks",
        [helper.make_tensor_value_info("input_1", TensorProto.FLOAT, [1, None])],
        [helper.make_tensor_value_info("marks", TensorProto.FLOAT, [1, 3])],
        [third],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    folder = tmp_path / "speechmos/dnsmos_models"
    folder.mkdir(parents=True)
    onnx.save(model, folder / "sig_bak_ovr.onnx")
    (mark,) = Dnsmos(tmp_path).marks([(np.full(16_000, 0.5, np.float32), 16_000)])
    assert mark == pytest.approx(-0.06766283 + 1.11546468 + 0.04602535, abs=1e-4)


class FakeDecoder:
    """Hears "loud" in sounds above half of full scale."""

    def __init__(self, **files):
        self.files, self.peak = files, 0

    def start_utt(self):
        self.peak = 0

    def process_raw(self, pcm, *, no_search, full_utt):
        assert full_utt
        self.peak = int(np.abs(np.frombuffer(pcm, "<i2").astype(int)).max())

    def end_utt(self):
        pass

    def hyp(self):
        return SimpleNamespace(hypstr="loud") if self.peak > 16_000 else None


def test_sphinx_hears_every_sound_by_itself(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pocketsphinx", SimpleNamespace(Decoder=FakeDecoder))
    sphinx = Sphinx(tmp_path)
    sounds = [(tone(loudness=loudness), RATE_HZ) for loudness in (0.9, 0.1, 0.8)]
    assert sphinx.transcribe(sounds) == ["loud", "", "loud"]
