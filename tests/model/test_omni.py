import dataclasses

import pytest
import torch
from torch import Tensor

from unimoe.config import OmniConfig
from unimoe.errors import RequestError
from unimoe.model.omni import INITIAL_STD, OmniModel
from unimoe.nn.cache import KVCache
from unimoe.recipes.tiny import tiny_config
from unimoe.tokens.batch import collate, pack
from unimoe.tokens.sequence import Sample

CONFIG = tiny_config()
TOKENS = CONFIG.special_tokens
PER_TILE = CONFIG.vision.tokens_per_tile
PER_CLIP = CONFIG.audio.queries_per_clip


@pytest.fixture(scope="module")
def model() -> OmniModel:
    torch.manual_seed(0)
    return OmniModel(CONFIG).eval()


def tiles(count: int) -> Tensor:
    return torch.randn(count, 3, 56, 56, generator=torch.manual_seed(count))


def clips(count: int) -> Tensor:
    return torch.randn(count, 80, 300, generator=torch.manual_seed(count))


def image_ids(num_tiles: int) -> list[int]:
    return [TOKENS.vision_start, *[TOKENS.image_pad] * (num_tiles * PER_TILE), TOKENS.vision_end]


def video_ids(num_tiles: int) -> list[int]:
    return [TOKENS.vision_start, *[TOKENS.video_pad] * (num_tiles * PER_TILE), TOKENS.vision_end]


def audio_ids(num_clips: int) -> list[int]:
    return [TOKENS.audio_start, *[TOKENS.audio_pad] * (num_clips * PER_CLIP), TOKENS.audio_end]


def everything() -> dict[str, Tensor]:
    """A picture of two tiles, three frames, two clips, and words between."""
    ids = [1, 2, *image_ids(2), 3, *video_ids(3), 4, *audio_ids(2), 5, 6, 7]
    return {
        "input_ids": torch.tensor([ids]),
        "pixel_values": tiles(2),
        "image_grid_thw": torch.tensor([[1, 1, 2]]),
        "pixel_values_videos": tiles(3),
        "video_grid_thw": torch.tensor([[3, 1, 1]]),
        "second_per_grid_ts": torch.tensor([0.5]),
        "audio_features": clips(2),
        "audio_grid_thw": torch.tensor([2]),
    }


@torch.no_grad()
def test_each_medium_stands_where_its_placeholders_stood(model: OmniModel) -> None:
    inputs = everything()
    output = model(**inputs)
    ids = inputs["input_ids"]
    for pad, features in (
        (TOKENS.image_pad, model.vision(inputs["pixel_values"])),
        (TOKENS.video_pad, model.vision(inputs["pixel_values_videos"])),
        (TOKENS.audio_pad, model.audio(inputs["audio_features"])),
    ):
        torch.testing.assert_close(output.inputs_embeds[ids == pad], features.flatten(0, 1))
    assert torch.equal(output.inputs_embeds[:, :2], model.core.embed(ids[:, :2]))


@torch.no_grad()
def test_a_window_has_several_tokens_in_an_image_and_in_a_frame_alike() -> None:
    vision = dataclasses.replace(
        CONFIG.vision, aligner_layers=1, tokens_per_window=3, speaks_words=True
    )
    torch.manual_seed(0)
    model = OmniModel(dataclasses.replace(CONFIG, vision=vision)).eval()
    tokens = 3 * vision.pool_side**2
    pads = [*[TOKENS.image_pad] * tokens, 1, *[TOKENS.video_pad] * tokens]
    ids = torch.tensor([pads])
    found = model(
        ids,
        pixel_values=tiles(1),
        image_grid_thw=torch.tensor([[1, 1, 1]]),
        pixel_values_videos=tiles(1),
        video_grid_thw=torch.tensor([[1, 1, 1]]),
        second_per_grid_ts=torch.tensor([1.0]),
    ).inputs_embeds
    image, frame = found[ids == TOKENS.image_pad], found[ids == TOKENS.video_pad]
    words = model.vision.words(model.vision(tiles(1)), model.core.embed_tokens.weight)[0]
    torch.testing.assert_close(image, words)
    torch.testing.assert_close(frame, words)


@torch.no_grad()
def test_only_the_wanted_rows_are_scored(model: OmniModel) -> None:
    ids = torch.arange(12).view(2, 6)
    whole = model(ids).logits
    for rows in (0, 1, 4, 6, 9):
        scored = model(ids, logits_rows=rows).logits
        assert scored.shape[1] == min(rows, 6)
        torch.testing.assert_close(scored, whole[:, 6 - min(rows, 6) :])


@torch.no_grad()
def test_decoding_after_media_continues_the_whole_prompt(model: OmniModel) -> None:
    inputs = everything()
    whole = model(**inputs)
    cache = KVCache(3, max_length=128)
    ids = inputs.pop("input_ids")
    start = model(ids[:, :-2], **inputs, cache=cache)
    steps = [start.hidden_states]
    for step in (-2, -1):
        positions = (cache.length + start.rope_deltas).expand(3, 1, 1)
        last = ids[:, step:][:, :1]
        output = model(last, position_ids=positions, cache=cache)
        assert torch.equal(output.rope_deltas, start.rope_deltas)
        steps.append(output.hidden_states)
    torch.testing.assert_close(torch.cat(steps, 1), whole.hidden_states, rtol=0, atol=1e-5)
    assert torch.equal(start.rope_deltas, whole.rope_deltas)


@torch.no_grad()
def test_a_picture_shared_by_a_batch_gives_each_row_its_own_answer(model: OmniModel) -> None:
    row = [1, *image_ids(1), 2]
    ids = torch.tensor([row, [*row[:-1], 3]])
    grid = torch.tensor([[1, 1, 1]])
    batch = model(
        ids, pixel_values=tiles(1).expand(2, -1, -1, -1), image_grid_thw=grid.expand(2, -1)
    )
    for index in range(2):
        alone = model(ids[index : index + 1], pixel_values=tiles(1), image_grid_thw=grid)
        torch.testing.assert_close(batch.logits[index], alone.logits[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_second_picture_may_follow_stored_tokens(model: OmniModel) -> None:
    first, second = [1, 2], [*image_ids(1), 3]
    grid = torch.tensor([[1, 1, 1]])
    ids = torch.tensor([first + second])
    whole = model(ids, pixel_values=tiles(1), image_grid_thw=grid)
    cache = KVCache(3, max_length=64)
    model(ids[:, :2], cache=cache)
    later = model(
        ids[:, 2:],
        pixel_values=tiles(1),
        position_ids=whole.position_ids[..., 2:],
        cache=cache,
    )
    torch.testing.assert_close(later.logits, whole.logits[:, 2:], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_generated_placeholder_is_mere_text(model: OmniModel) -> None:
    cache = KVCache(3, max_length=64)
    model(torch.tensor([[1, 2]]), cache=cache)
    drawn = torch.tensor([[TOKENS.image_pad]])
    output = model(drawn, position_ids=torch.full((3, 1, 1), 2), cache=cache)
    assert torch.equal(output.inputs_embeds, model.core.embed(drawn))


def test_stored_tokens_without_positions_are_refused(model: OmniModel) -> None:
    cache = KVCache(3, max_length=64)
    with torch.no_grad():
        model(torch.tensor([[1, 2]]), cache=cache)
    with pytest.raises(RequestError, match=r"2 tokens are stored.*pass position_ids"):
        model(torch.tensor([[3]]), cache=cache)


def test_placeholders_without_their_medium_are_refused(model: OmniModel) -> None:
    with pytest.raises(RequestError, match=r"audio: 20 placeholder tokens .* but 0 features"):
        model(torch.tensor([audio_ids(1)]))


def test_a_model_without_encoders_refuses_media() -> None:
    blind = OmniModel(dataclasses.replace(CONFIG, vision=None, audio=None))
    assert blind.vision is None
    assert blind.audio is None
    with pytest.raises(RequestError, match="no encoder"):
        blind(torch.tensor([image_ids(1)]), pixel_values=tiles(1))


@torch.no_grad()
def test_packed_samples_have_the_loss_of_the_samples_together(model: OmniModel) -> None:
    first, second = torch.arange(1, 6), torch.arange(11, 18)
    packed = model(
        torch.cat([first, second])[None],
        attention_mask=torch.tensor([[1] * 5 + [2] * 7]),
        labels=torch.cat([first, second])[None],
    )
    alone = [model(ids[None], labels=ids[None]).loss.text for ids in (first, second)]
    torch.testing.assert_close(packed.loss.text, (4 * alone[0] + 6 * alone[1]) / 10)


@torch.no_grad()
def test_a_packed_image_and_sound_have_the_outcome_they_have_alone(model: OmniModel) -> None:
    image = Sample(
        input_ids=torch.tensor([1, 2, *image_ids(2), 3]),
        pixel_values=tiles(2),
        image_grid_thw=torch.tensor([[1, 1, 2]]),
        token_counts={},
    )
    sound = Sample(
        input_ids=torch.tensor([4, *audio_ids(1), 5, 6]),
        audio_features=clips(1),
        audio_grid_thw=torch.tensor([1]),
        token_counts={},
    )
    batch = pack([image, sound], row_length=50, pad_id=TOKENS.pad, config=CONFIG)
    packed = model(**batch.model_inputs())
    assert len(batch.input_ids) == 1
    for number, sample in ((1, sound), (2, image)):  # the longest first
        single = collate([sample], pad_id=TOKENS.pad, padding="right")
        alone = model(**single.model_inputs())
        members = batch.attention_mask[0] == number
        torch.testing.assert_close(packed.logits[0, members], alone.logits[0], rtol=0, atol=1e-5)
        assert torch.equal(packed.position_ids[:, 0, members], alone.position_ids[:, 0])


@torch.no_grad()
def test_swapped_pictures_take_their_features_with_them(model: OmniModel) -> None:
    wide, square = tiles(2), tiles(1)

    def embeddings(pictures: list[Tensor]) -> Tensor:
        """Of the placeholders alone."""
        ids = torch.tensor([[1, *(i for picture in pictures for i in image_ids(len(picture)))]])
        grids = torch.tensor([[1, 1, len(picture)] for picture in pictures])
        embeds = model(ids, pixel_values=torch.cat(pictures), image_grid_thw=grids).inputs_embeds
        return embeds[ids == TOKENS.image_pad]

    one_way, other_way = embeddings([wide, square]), embeddings([square, wide])
    assert not torch.allclose(one_way, other_way)
    swapped = torch.cat([other_way[PER_TILE:], other_way[:PER_TILE]])
    torch.testing.assert_close(one_way, swapped, rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_total_loss_adds_the_weighted_balance(model: OmniModel) -> None:
    ids = torch.arange(1, 9)[None]
    loss = model(ids, labels=ids, logits_rows=0).loss
    torch.testing.assert_close(loss.total, loss.text + CONFIG.balance_weight * loss.balance)
    assert loss.balance > 0
    assert loss.z == 0


@torch.no_grad()
def test_the_z_loss_joins_the_total_once_it_has_a_weight() -> None:
    model = OmniModel(dataclasses.replace(CONFIG, z_loss_weight=0.1)).eval()
    ids = torch.arange(1, 9)[None]
    loss = model(ids, labels=ids, logits_rows=0).loss
    without_z = loss.text + CONFIG.balance_weight * loss.balance
    assert loss.z > 0
    torch.testing.assert_close(loss.total, without_z + 0.1 * loss.z)


@torch.no_grad()
def test_a_dense_model_has_no_balance_loss_and_no_routing() -> None:
    dense = OmniModel(
        dataclasses.replace(
            CONFIG, core=dataclasses.replace(CONFIG.core, moe=None), vision=None, audio=None
        )
    )
    ids = torch.arange(1, 9)[None]
    output = dense(ids, labels=ids)
    assert output.routing == ()
    assert output.loss.balance == 0.0
    assert torch.equal(output.loss.total, output.loss.text)


def test_with_frozen_encoders_and_core_the_connectors_still_learn() -> None:
    torch.manual_seed(0)
    model = OmniModel(CONFIG)
    model.requires_grad_(False)
    model.vision.aligner.requires_grad_(True)
    model.audio.qformer.projector.requires_grad_(True)
    inputs = everything()
    model(**inputs, labels=inputs["input_ids"], logits_rows=0).loss.total.backward()
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {name.rsplit(".", 1)[0] for name in learning} == {
        "vision.aligner.0",
        "vision.aligner.2",
        "audio.qformer.projector",
    }


def test_fresh_weights_are_as_the_page_says(model: OmniModel) -> None:
    for name, parameter in model.named_parameters():
        if ".tower." in name or ".decoder." in name:
            continue
        if name.endswith("norm.weight"):
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        elif name.endswith((".bias", "query_tokens")):
            assert not parameter.any(), name
        else:
            assert parameter.std().item() == pytest.approx(INITIAL_STD, rel=0.25), name


def test_a_model_on_the_meta_device_holds_nothing_but_parameters() -> None:
    with torch.device("meta"):
        model = OmniModel(CONFIG)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert list(model.buffers()) == []


def test_construction_leaves_the_default_dtype_alone() -> None:
    before = torch.get_default_dtype()
    OmniModel(CONFIG)
    assert torch.get_default_dtype() == before


@torch.no_grad()
def test_a_bf16_model_reads_float32_media() -> None:
    output = OmniModel(CONFIG).bfloat16()(**everything())
    assert output.logits.dtype == torch.bfloat16
    assert output.logits.isfinite().all()


def test_device_and_dtype_are_those_of_the_embeddings(model: OmniModel) -> None:
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)


def test_parameters_live_under_three_roots(model: OmniModel) -> None:
    roots = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert roots == {"core", "vision", "audio"}
    assert isinstance(model.config, OmniConfig)
