import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tokens.tiny_vocabulary import special_tokens_of, tiny_config, tiny_tokenizer
from unimoe.errors import RequestError
from unimoe.tokens.batch import collate, pack
from unimoe.tokens.positions import omni_positions
from unimoe.tokens.sequence import Sample

SPECIAL = special_tokens_of(tiny_tokenizer())
CONFIG = tiny_config(SPECIAL)
PAD = SPECIAL.pad


def text_sample(*ids: int, labels: list[int] | None = None) -> Sample:
    return Sample(
        input_ids=torch.tensor(ids),
        labels=None if labels is None else torch.tensor(labels),
        token_counts={"text": len(ids)},
    )


def image_sample(value: float, *, tiles: int = 1) -> Sample:
    ids = [SPECIAL.vision_start] + [SPECIAL.image_pad] * (4 * tiles) + [SPECIAL.vision_end, 1]
    return Sample(
        input_ids=torch.tensor(ids),
        pixel_values=torch.full((tiles, 3, 28, 28), value),
        image_grid_thw=torch.tensor([[1, 1, tiles]]),
        token_counts={"text": 3, "image": 4 * tiles},
    )


def sound_sample(value: float) -> Sample:
    return Sample(
        input_ids=torch.tensor([SPECIAL.audio_start, *[SPECIAL.audio_pad] * 20]),
        audio_features=torch.full((1, 16, 100), value),
        audio_grid_thw=torch.tensor([1]),
        token_counts={"text": 1, "audio": 20},
    )


def test_rows_are_filled_on_the_right_for_training():
    samples = [text_sample(5, 6, 7, labels=[-100, 6, 7]), text_sample(8, labels=[8])]
    batch = collate(samples, pad_id=PAD, padding="right")
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, PAD, PAD]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.labels.tolist() == [[-100, 6, 7], [8, -100, -100]]


def test_rows_are_filled_on_the_left_for_generation():
    batch = collate([text_sample(5, 6, 7), text_sample(8)], pad_id=PAD, padding="left")
    assert batch.input_ids.tolist() == [[5, 6, 7], [PAD, PAD, 8]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert batch.labels is None


def test_the_mask_and_not_the_id_tells_padding():
    batch = collate([text_sample(5, PAD), text_sample(8)], pad_id=PAD, padding="right")
    assert batch.attention_mask.tolist() == [[1, 1], [1, 0]]


def test_media_are_joined_in_the_order_of_the_rows():
    samples = [image_sample(1.0), text_sample(5), image_sample(2.0, tiles=2), sound_sample(3.0)]
    batch = collate(samples, pad_id=PAD, padding="right")
    assert batch.pixel_values[:, 0, 0, 0].tolist() == [1.0, 2.0, 2.0]
    assert batch.image_grid_thw.tolist() == [[1, 1, 1], [1, 1, 2]]
    assert batch.audio_grid_thw.tolist() == [1]
    assert batch.video_grid_thw is None


def test_model_inputs_are_what_is_there():
    batch = collate([sound_sample(1.0)], pad_id=PAD, padding="right")
    assert set(batch.model_inputs()) == {
        "input_ids",
        "attention_mask",
        "audio_features",
        "audio_grid_thw",
    }


def test_a_dtype_changes_signals_and_leaves_ids_and_seconds():
    sample = dataclasses.replace(
        image_sample(1.0),
        pixel_values_videos=torch.ones(1, 3, 28, 28),
        video_grid_thw=torch.tensor([[1, 1, 1]]),
        second_per_grid_ts=torch.tensor([0.3]),
    )
    batch = collate([sample], pad_id=PAD, padding="right").to("cpu", torch.bfloat16)
    assert batch.pixel_values.dtype == batch.pixel_values_videos.dtype == torch.bfloat16
    assert batch.second_per_grid_ts.dtype == torch.float32
    assert batch.input_ids.dtype == torch.int64


def test_nothing_or_labels_on_some_only_is_no_batch():
    with pytest.raises(RequestError, match="0 samples"):
        collate([], pad_id=PAD, padding="right")
    with pytest.raises(RequestError, match="2 samples, 1 of them with labels"):
        collate([text_sample(5, labels=[5]), text_sample(6)], pad_id=PAD, padding="right")


def test_packing_fills_rows_with_the_longest_first():
    samples = [text_sample(*[n] * n) for n in (2, 5, 3, 1)]
    batch = pack(samples, row_length=6, pad_id=PAD, config=CONFIG)
    assert batch.input_ids.tolist() == [[5, 5, 5, 5, 5, 1], [3, 3, 3, 2, 2, PAD]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1, 2], [1, 1, 1, 2, 2, 0]]
    assert batch.position_ids[0].tolist() == [[0, 1, 2, 3, 4, 0], [0, 1, 2, 0, 1, 1]]


def test_a_sample_longer_than_a_row_is_refused_and_not_cut():
    with pytest.raises(RequestError, match="a sample of 5 tokens does not fit a row of 4"):
        pack([text_sample(1, 2, 3, 4, 5)], row_length=4, pad_id=PAD, config=CONFIG)


kinds = st.sampled_from(["text", "image", "two tiles", "sound"])


def make(kind: str, index: int) -> Sample:
    value = float(index)
    return {
        "text": lambda: text_sample(*[10 + index] * (index % 7 + 1)),
        "image": lambda: image_sample(value),
        "two tiles": lambda: image_sample(value, tiles=2),
        "sound": lambda: sound_sample(value),
    }[kind]()


@settings(max_examples=30)
@given(st.lists(kinds, min_size=1, max_size=8), st.integers(21, 50))
def test_packing_keeps_every_sample_with_its_positions_and_media(chosen, row_length):
    samples = [make(kind, index) for index, kind in enumerate(chosen)]
    batch = pack(samples, row_length=row_length, pad_id=PAD, config=CONFIG)

    unpacked = []
    pixels, clips = (
        list(batch.pixel_values if batch.pixel_values is not None else []),
        list(batch.audio_features if batch.audio_features is not None else []),
    )
    for row, mask in enumerate(batch.attention_mask):
        for sample_number in range(1, int(mask.max()) + 1):
            members = mask == sample_number
            ids = batch.input_ids[row, members]
            tiles = int((ids == SPECIAL.image_pad).sum()) // 4
            sounds = int((ids == SPECIAL.audio_pad).sum()) // 20
            media = [float(pixels.pop(0).mean()) for _ in range(tiles)]
            media += [float(clips.pop(0).mean()) for _ in range(sounds)]
            unpacked.append((ids.tolist(), media, batch.position_ids[:, row, members].tolist()))

    assert sorted(unpacked) == sorted(map(described, samples))
    assert (batch.position_ids[:, batch.attention_mask == 0] == 1).all()
    assert pixels == clips == []


def described(sample: Sample) -> tuple[list[int], list[float], list[list[int]]]:
    alone = omni_positions(
        sample.input_ids[None],
        config=CONFIG,
        image_grid_thw=sample.image_grid_thw,
        audio_grid_thw=sample.audio_grid_thw,
    )
    signals = sample.pixel_values if sample.pixel_values is not None else sample.audio_features
    media = [] if signals is None else [float(signal.mean()) for signal in signals]
    return sample.input_ids.tolist(), media, alone.ids[:, 0].tolist()
