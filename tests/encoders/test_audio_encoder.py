import dataclasses

import pytest
import torch

from unimoe.config import AudioConfig
from unimoe.encoders import audio
from unimoe.encoders.audio import AudioEncoder

CONFIG = AudioConfig(
    hidden_size=32,
    encoder_layers=2,
    decoder_layers=2,
    num_heads=4,
    ffn_width=64,
    num_mel_bins=16,
    max_source_positions=25,
    max_target_positions=44,
    vocab_size=20,
    queries_per_clip=40,
    max_clips=4,
)


@pytest.fixture
def encoder() -> AudioEncoder:
    torch.manual_seed(0)
    encoder = AudioEncoder(CONFIG, hidden_size=48, vocab_size=64).eval()
    # Zero queries read alike except for their positions; give each its own question.
    torch.nn.init.normal_(encoder.qformer.query_tokens)
    return encoder


def clips(count: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 16, 50, generator=torch.manual_seed(seed))


def test_a_clip_becomes_its_queries(encoder: AudioEncoder) -> None:
    assert encoder(clips(2)).shape == (2, 40, 48)


@torch.no_grad()
def test_a_query_depends_on_earlier_queries_only(encoder: AudioEncoder) -> None:
    before = encoder(clips(1))
    encoder.qformer.query_tokens[:, 30] *= -1
    changed = (encoder(clips(1)) - before).abs().amax((0, 2)) > 1e-6
    assert changed.nonzero().flatten().tolist() == list(range(30, 40))


def test_a_query_hears_the_whole_clip(encoder: AudioEncoder) -> None:
    features = clips(1).requires_grad_(True)
    encoder(features)[0, 0].sum().backward()
    assert (features.grad.abs().sum((0, 1)) > 0).all()


def test_learned_queries_and_decoder_learn_but_its_vocabulary_does_not(
    encoder: AudioEncoder,
) -> None:
    encoder(clips(1)).sum().backward()
    assert encoder.qformer.query_tokens.grad.any()
    assert encoder.qformer.decoder.layers[0].fc1.weight.grad.any()
    assert encoder.qformer.decoder.embed_tokens.weight.grad is None


@torch.no_grad()
def test_a_sound_in_every_prompt_is_encoded_once(
    encoder: AudioEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    encoder.tower.conv1.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    monkeypatch.setattr(audio, "CLIPS_PER_CHUNK", 2)
    sounds = clips(3)
    features = encoder(torch.cat([sounds, sounds]))
    assert seen == [2, 1]
    alone = torch.cat([encoder(sound[None]) for sound in sounds])
    torch.testing.assert_close(features[:3], alone, rtol=0, atol=1e-6)
    assert torch.equal(features[:3], features[3:])


def test_a_deeper_projector_has_gelu_between(encoder: AudioEncoder) -> None:
    deep = AudioEncoder(
        dataclasses.replace(CONFIG, projector_layers=2), hidden_size=48, vocab_size=64
    )
    names = {name for name, _ in deep.qformer.projector.named_parameters()}
    assert names == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert {name for name, _ in encoder.qformer.projector.named_parameters()} == {"weight", "bias"}
    assert deep.eval()(clips(1)).shape == (1, 40, 48)


def test_features_are_cast_to_the_weights(encoder: AudioEncoder) -> None:
    assert encoder.bfloat16()(clips(1)).dtype == torch.bfloat16


def test_a_training_encoder_draws_nothing(encoder: AudioEncoder) -> None:
    encoder.train()
    assert torch.equal(encoder(clips(1)), encoder(clips(1)))


def test_an_audio_encoder_on_the_meta_device_holds_nothing_but_parameters() -> None:
    with torch.device("meta"):
        encoder = AudioEncoder(CONFIG, hidden_size=48, vocab_size=64)
    assert {parameter.device.type for parameter in encoder.parameters()} == {"meta"}
    assert list(encoder.buffers()) == []
