"""WavTokenizer, number for number: codes to waveform, waveform to codes."""

import pytest
import torch

from tests.heads.made_codecs import RECORDED, codec_directory, recorded
from unimoe.heads.codec import Codec
from unimoe.heads.codec_weights import load_codec


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return load_codec(codec_directory(tmp_path_factory.mktemp("codec")), RECORDED)


@pytest.mark.parametrize("bandwidth_id", [0, 2])
def test_codes_become_the_recorded_waveform(codec: Codec, bandwidth_id: int) -> None:
    case = recorded("decode")
    with torch.no_grad():
        waveform = codec.decode(case["codes"][0], bandwidth_id=bandwidth_id)
    wanted = case[f"expected.waveform_bandwidth{bandwidth_id}"]
    torch.testing.assert_close(waveform, wanted, rtol=0, atol=1e-5)


def test_features_and_states_of_the_decoder_are_the_recorded_ones(codec: Codec) -> None:
    case = recorded("decode")
    with torch.no_grad():
        features = codec.features(case["codes"][0])
        states = codec.backbone(features, 0)
    assert torch.equal(features, case["expected.features"])
    torch.testing.assert_close(states, case["expected.backbone_bandwidth0"], rtol=0, atol=1e-5)


def test_a_waveform_becomes_the_recorded_codes(codec: Codec) -> None:
    case = recorded("encode")
    with torch.no_grad():
        codes = codec.encode(case["waveform"])
        vectors = codec.encoder(case["waveform"][:, None])
    assert torch.equal(codes, case["expected.codes"][0])
    torch.testing.assert_close(vectors, case["expected.encoder_embedding"], rtol=0, atol=1e-5)
    assert torch.equal(codec.features(codes), case["expected.quantized"])
