"""Embeddings of media as mixtures of words."""

from dataclasses import replace

import torch

from unimoe.encoders.soft_words import SHARPNESS, SoftWords
from unimoe.model.omni import OmniModel
from unimoe.recipes.tiny import tiny_config


def test_an_embedding_becomes_the_mean_of_the_words_it_is_near_to() -> None:
    table = torch.randn(6, 8)
    words = SoftWords(6)
    words.limit_to([1, 4, 5])
    embeddings = torch.randn(2, 3, 8)
    found = words(embeddings, table)
    for place in range(2):
        for step in range(3):
            far = [(embeddings[place, step] - table[word]).square().sum() for word in (1, 4, 5)]
            chances = torch.softmax(-SHARPNESS / 2 * torch.stack(far), 0)
            expected = sum(chances[n] * table[word] for n, word in enumerate((1, 4, 5)))
            torch.testing.assert_close(found[place, step], expected, rtol=1e-4, atol=1e-5)


def test_a_long_embedding_becomes_its_word_and_no_other_may_be_said() -> None:
    table = 3 * torch.eye(5)
    words = SoftWords(5)
    assert words.token_ids.tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(words(20 * table[2], table), table[2])
    words.limit_to([0, 1])
    assert words.token_ids.tolist() == [0, 1]
    assert float(words(20 * table[2], table)[2]) == 0


def test_half_precision_loses_no_score() -> None:
    """In bf16 scores near 150 are whole numbers: two words apart by half of one would be equal."""
    table = torch.tensor([[3.0, 0.0], [2.984375, 0.25]]).bfloat16()
    embedding = torch.tensor([60.0, 1.0])
    words = SoftWords(2)
    with torch.autocast("cpu", torch.bfloat16):
        found = words.scores(embedding, table)
    exact = SHARPNESS * (table.double() @ embedding.double() - table.double().square().sum(1) / 2)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-4)


def test_the_core_reads_words_of_pictures_and_sounds() -> None:
    config = tiny_config()
    assert config.vision is not None
    assert config.audio is not None
    special = config.special_tokens
    assert special.image_pad is not None
    assert special.audio_pad is not None
    torch.manual_seed(0)
    model = OmniModel(
        replace(
            config,
            vision=replace(config.vision, speaks_words=True),
            audio=replace(config.audio, speaks_words=True),
        )
    )
    assert model.vision is not None
    assert model.audio is not None
    table = model.core.embed_tokens.weight.detach()
    for encoder in (model.vision, model.audio):
        assert encoder.words is not None
        encoder.words.limit_to([40])
    picture = torch.tensor([[7, *[special.image_pad] * 4]])
    embeds = model.embed_inputs(picture, image_states=torch.randn(1, 16, 32))
    torch.testing.assert_close(embeds[0, 1:], table[40].expand(4, -1))
    sound = torch.tensor([[7, *[special.audio_pad] * 20]])
    embeds = model.embed_inputs(sound, audio_states=torch.randn(1, 150, 32))
    torch.testing.assert_close(embeds[0, 1:], table[40].expand(20, -1))
