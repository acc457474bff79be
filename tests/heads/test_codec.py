import pytest
import torch

from tests.heads.made_codecs import RECORDED
from unimoe.config import CodecConfig
from unimoe.errors import ConfigError, MediaError, RequestError
from unimoe.heads.codec import Codec


@pytest.fixture(scope="module")
def codec() -> Codec:
    torch.manual_seed(3)
    return Codec(RECORDED).eval()


@torch.no_grad()
def test_every_code_becomes_a_hop_of_sound(codec: Codec) -> None:
    for num_codes in (1, 2, 25):
        codes = torch.zeros(2, num_codes, dtype=torch.long)
        assert codec.decode(codes).shape == (2, num_codes * 60)


@torch.no_grad()
def test_sounds_of_one_length_do_not_disturb_each_other(codec: Codec) -> None:
    codes = torch.arange(20).view(2, 10)
    both = codec.decode(codes)
    torch.testing.assert_close(both[1:], codec.decode(codes[1:]), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        codec.encoder(both[:, None])[:1], codec.encoder(both[:1, None]), rtol=0, atol=1e-5
    )


@torch.no_grad()
def test_a_row_of_the_codebook_is_nearest_to_itself(codec: Codec) -> None:
    codes = torch.randperm(RECORDED.num_codes)[None]
    near = codec.features(codes).transpose(1, 2) + 1e-3
    assert torch.equal(codec.nearest_codes(near), codes)


@torch.no_grad()
def test_the_nearest_row_is_the_one_of_the_smallest_distance(codec: Codec) -> None:
    vectors = 3 * torch.randn(2, 40, RECORDED.code_width)
    slow = torch.cdist(vectors.double(), codec.codebook.weight.double()).argmin(-1)
    assert torch.equal(codec.nearest_codes(vectors), slow)


@pytest.mark.parametrize(("code", "shown"), [(64, "64"), (-1, "-1")])
def test_a_code_outside_of_the_codebook_is_refused(codec: Codec, code: int, shown: str) -> None:
    with pytest.raises(RequestError, match=f"code {shown} to decode; the codec knows 0 to 63"):
        codec.decode(torch.tensor([[1, code]]))


def test_nothing_to_decode_is_refused(codec: Codec) -> None:
    with pytest.raises(RequestError, match="no codes"):
        codec.decode(torch.zeros(1, 0, dtype=torch.long))


def test_a_norm_that_is_not_there_is_refused(codec: Codec) -> None:
    with pytest.raises(RequestError, match="bandwidth_id is 4; need 0 to 3"):
        codec.decode(torch.zeros(1, 3, dtype=torch.long), bandwidth_id=4)


@pytest.mark.parametrize("sound", [torch.zeros(1, 0), torch.tensor([[0.0, float("nan")]])])
def test_no_sound_and_a_broken_one_are_refused(codec: Codec, sound: torch.Tensor) -> None:
    with pytest.raises(MediaError, match="the sound"):
        codec.encode(sound)


def test_the_published_codec_has_forty_codes_a_second() -> None:
    config = CodecConfig()
    assert config.sample_rate_hz / config.hop_samples == 40


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hidden_size": 48}, "multiple of the 32 norm groups"),
        ({"window_samples": 601}, "window_samples is 601"),
        ({"window_samples": 300}, "window_samples is 300"),
        ({"strides": ()}, "strides are \\(\\)"),
    ],
)
def test_impossible_codecs_are_refused(changed: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CodecConfig(**changed)
