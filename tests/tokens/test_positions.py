import dataclasses
import json
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unimoe.config import SpecialTokens
from unimoe.errors import RequestError
from unimoe.recipes.tiny import tiny_config
from unimoe.tokens.positions import Positions, omni_positions

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "positions").glob("*.json"))
TEXT, START, END, IMAGE, VIDEO, A_START, A_END, AUDIO, PAD = range(1, 10)
SPECIAL = SpecialTokens(
    pad=PAD,
    end_of_turn=0,
    vision_start=START,
    vision_end=END,
    image_pad=IMAGE,
    video_pad=VIDEO,
    audio_start=A_START,
    audio_end=A_END,
    audio_pad=AUDIO,
)
few = settings(max_examples=40)


def config_of(special_tokens, rule, *, pool_side=None, queries_per_clip=None):
    """A model of which only that matters."""
    whole = tiny_config()
    vision = pool_side and dataclasses.replace(
        whole.vision, image_side=14 * 2 * pool_side, pool_side=pool_side
    )
    audio = queries_per_clip and dataclasses.replace(
        whole.audio, queries_per_clip=queries_per_clip, max_target_positions=queries_per_clip
    )
    return dataclasses.replace(
        whole, special_tokens=special_tokens, position_rule=rule, vision=vision, audio=audio
    )


def number(ids, rule="paper", mask=None, images=None, videos=None, seconds=None, audios=None):
    """Positions of rows of ids; grids as lists."""

    def tensor(values, dtype=torch.int64):
        return None if values is None else torch.tensor(values, dtype=dtype)

    return omni_positions(
        torch.tensor(ids),
        tensor(mask),
        config=config_of(SPECIAL, rule, pool_side=2, queries_per_clip=40),
        image_grid_thw=tensor(images),
        video_grid_thw=tensor(videos),
        second_per_grid_ts=tensor(seconds, torch.float32),
        audio_grid_thw=tensor(audios),
    )


def axes(positions: Positions, row: int = 0) -> list[list[int]]:
    return positions.ids[:, row].tolist()


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_released_positions_are_reproduced(path):
    case = json.loads(path.read_text())
    names = case["token_ids"]
    rows = [[names[kind] for kind, count in row for _ in range(count)] for row in case["layout"]]
    ids = torch.tensor(rows)
    optional = {
        "image_grid_thw": case["image_grid_thw"],
        "video_grid_thw": case["video_grid_thw"],
        "audio_grid_thw": case["audio_chunks"],
    }
    grids = {name: torch.tensor(v) for name, v in optional.items() if v is not None}
    seconds = case["second_per_grid_ts"]

    positions = omni_positions(
        ids,
        None if case["attention_mask"] is None else (ids != names["pad"]).long(),
        config=config_of(
            SpecialTokens(
                pad=names["pad"],
                end_of_turn=0,
                vision_start=names["vision_start"],
                image_pad=names["image_pad"],
                video_pad=names["video_pad"],
                audio_start=names["audio_start"],
                audio_pad=names["audio_pad"],
            ),
            "released",
            pool_side=case["pool_stride"],
            queries_per_clip=200,
        ),
        second_per_grid_ts=None if seconds is None else torch.tensor(seconds).float(),
        **grids,
    )

    assert positions.ids.tolist() == [case["t"], case["h"], case["w"]]
    assert positions.delta.flatten().tolist() == case["delta"]


def test_all_fixtures_are_there():
    assert len(GOLDEN) == 17


def test_tokens_of_a_window_follow_each_other_in_its_row():
    config = config_of(SPECIAL, "ordered", pool_side=2)
    vision = dataclasses.replace(config.vision, aligner_layers=1, tokens_per_window=3)
    config = dataclasses.replace(config, vision=vision)
    positions = omni_positions(
        torch.tensor([[*[IMAGE] * 12, 1, *[VIDEO] * 12]]),
        config=config,
        image_grid_thw=torch.tensor([[1, 1, 1]]),
        video_grid_thw=torch.tensor([[1, 1, 1]]),
        second_per_grid_ts=torch.tensor([1.0]),
    )
    times, rows, columns = axes(positions)
    assert times == [0] * 12 + [6] + [7] * 12
    assert rows == [0] * 6 + [1] * 6 + [6] + [7] * 6 + [8] * 6
    assert columns == [*range(6), *range(6), 6, *range(7, 13), *range(7, 13)]


def test_ordered_sounds_are_numbered_like_text_beside_a_picture():
    ids = [[1, *[IMAGE] * 4, 1, *[AUDIO] * 40, 1]]
    grouped = number(ids, images=[[1, 1, 1]], audios=[1])
    ordered = number(ids, "ordered", images=[[1, 1, 1]], audios=[1])
    assert torch.equal(grouped.ids[:, 0, :7], ordered.ids[:, 0, :7])
    assert axes(ordered)[0][5:] == axes(ordered)[2][5:] == [*range(3, 45)]
    assert len(set(axes(grouped)[0][6:46])) == 2


def test_text_counts_on_all_three_axes():
    positions = number([[TEXT] * 4])
    assert axes(positions) == [[0, 1, 2, 3]] * 3
    assert positions.delta.tolist() == [[0]]


def test_an_image_stands_still_in_time_and_is_counted_tile_by_tile():
    # Two tiles side by side, each of 2 x 2 tokens:   0 1 | 4 5
    #                                                 2 3 | 6 7
    ids = [[TEXT] * 3 + [START] + [IMAGE] * 8 + [END] + [TEXT] * 2]
    t, h, w = axes(number(ids, images=[[1, 1, 2]]))
    assert t == [0, 1, 2, 3, *[4, 4, 4, 4], *[4, 4, 4, 4], 8, 9, 10]
    assert h == [0, 1, 2, 3, *[4, 4, 5, 5], *[4, 4, 5, 5], 8, 9, 10]
    assert w == [0, 1, 2, 3, *[4, 5, 4, 5], *[6, 7, 6, 7], 8, 9, 10]


def test_video_moves_by_two_ids_a_second_and_text_goes_on_after_the_largest():
    # Frames half a second apart.
    ids = [[START] + [VIDEO] * 12 + [END]]
    t, h, w = axes(number(ids, videos=[[3, 1, 1]], seconds=[0.5]))
    assert t == [0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4]
    assert h == [0, 1, 1, 2, 2, 1, 1, 2, 2, 1, 1, 2, 2, 4]
    assert w == [0, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 4]


def test_half_ids_round_to_even():
    # 0.75 s a frame is 1.5 ids: 0, 1.5, 3, 4.5, 6.
    t, _, _ = axes(number([[VIDEO] * 20], videos=[[5, 1, 1]], seconds=[0.75]))
    assert t[::4] == [0, 2, 3, 4, 6]


def test_twenty_audio_tokens_share_an_id_and_the_next_twenty_are_three_seconds_on():
    ids = [[TEXT, A_START] + [AUDIO] * 40 + [A_END]]
    positions = number(ids, audios=[1])
    assert axes(positions) == [[0, 1] + [2] * 20 + [8] * 20 + [9]] * 3
    assert positions.delta.tolist() == [[10 - 43]]


def test_released_rule_numbers_audio_without_vision_one_by_one():
    ids = [[TEXT, A_START] + [AUDIO] * 40 + [A_END]]
    assert axes(number(ids, "released", audios=[1])) == [list(range(43))] * 3


def test_released_rule_looks_at_each_sample_and_not_at_its_neighbours():
    image_row = [START] + [IMAGE] * 4 + [END] + [TEXT] * 37
    audio_row = [TEXT, A_START] + [AUDIO] * 40 + [A_END]
    together = number([image_row, audio_row], "released", images=[[1, 1, 1]], audios=[1])
    assert axes(together, 1) == axes(number([audio_row], "released", audios=[1]))


def test_sound_of_a_video_starts_after_its_frames():
    ids = [[START] + [VIDEO] * 8 + [END, A_START] + [AUDIO] * 40 + [A_END]]
    t, _, _ = axes(number(ids, videos=[[2, 1, 1]], seconds=[2.0], audios=[1]))
    assert t == [0] + [1] * 4 + [5] * 4 + [6, 7] + [8] * 20 + [14] * 20 + [15]


def test_padding_stays_at_one_and_counts_for_the_delta():
    ids = [[PAD, PAD, TEXT, TEXT, TEXT], [TEXT, PAD, PAD, PAD, PAD]]
    positions = number(ids, mask=[[0, 0, 1, 1, 1], [1, 0, 0, 0, 0]])
    assert axes(positions, 0) == [[1, 1, 0, 1, 2]] * 3
    assert axes(positions, 1) == [[0, 1, 1, 1, 1]] * 3
    assert positions.delta.tolist() == [[3 - 5], [1 - 5]]


def test_samples_packed_in_a_row_each_start_at_zero():
    ids = [[TEXT, TEXT, START, *[IMAGE] * 4, END, TEXT, START, *[IMAGE] * 4, PAD]]
    mask = [[1, 1, *[2] * 7, *[3] * 5, 0]]
    t, h, _ = axes(number(ids, mask=mask, images=[[1, 1, 1], [1, 1, 1]]))
    assert t == [0, 1, *[0, 1, 1, 1, 1, 3, 4], *[0, 1, 1, 1, 1], 1]
    assert h == [0, 1, *[0, 1, 1, 2, 2, 3, 4], *[0, 1, 1, 2, 2], 1]


blocks = st.lists(
    st.one_of(
        st.tuples(st.just("text"), st.integers(1, 5)),
        st.tuples(st.just("image"), st.tuples(st.integers(1, 3), st.integers(1, 3))),
        st.tuples(st.just("video"), st.tuples(st.integers(1, 5), st.floats(0.1, 4.0))),
        st.tuples(st.just("audio"), st.integers(1, 2)),
    ),
    min_size=1,
    max_size=5,
)


def lay_out(parts):
    """Ids and grids of a prompt made of such blocks."""
    ids, grids = [], {"images": [], "videos": [], "seconds": [], "audios": []}
    for kind, size in parts:
        if kind == "text":
            ids += [TEXT] * size
        elif kind == "image":
            rows, columns = size
            ids += [START] + [IMAGE] * (rows * columns * 4) + [END]
            grids["images"].append([1, rows, columns])
        elif kind == "video":
            frames, seconds = size
            ids += [START] + [VIDEO] * (frames * 4) + [END]
            grids["videos"].append([frames, 1, 1])
            grids["seconds"].append(seconds)
        else:
            ids += [A_START] + [AUDIO] * (size * 40) + [A_END]
            grids["audios"].append(size)
    return ids, {name: values or None for name, values in grids.items()}


@few
@given(blocks)
def test_every_block_begins_after_all_that_came_before(parts):
    ids, grids = lay_out(parts)
    positions = number([ids], **grids).ids[:, 0]
    starts = [0] + [i + 1 for i, token in enumerate(ids) if token in (START, A_START)]
    for start in starts[1:]:
        assert positions[:, start].tolist() == [int(positions[:, :start].max()) + 1] * 3


@few
@given(st.integers(1, 30), st.floats(0.05, 10.0))
def test_time_ids_follow_the_seconds_of_the_frames(frames, seconds):
    ids, grids = lay_out([("video", (frames, seconds))])
    t = number([ids], **grids).ids[0, 0, 1:-1:4] - 1
    exact = torch.arange(frames) * seconds * 2
    assert (t.diff() >= 0).all()
    assert ((t - exact).abs() <= 0.5 + 1e-3).all()


@few
@given(blocks)
def test_token_after_prefill_stands_at_its_index_plus_delta(parts):
    ids, grids = lay_out(parts)
    prompt = number([ids], **grids)
    longer = number([[*ids, TEXT, TEXT]], **grids)
    next_ones = torch.arange(len(ids), len(ids) + 2) + prompt.delta
    assert torch.equal(longer.ids[:, :, -2:], next_ones.expand(3, 1, 2))
    assert torch.equal(longer.delta, prompt.delta)


@few
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_swapping_two_images_swaps_their_shapes_and_moves_nothing_else(r1, c1, r2, c2):
    first, second = ("image", (r1, c1)), ("image", (r2, c2))
    one_way, grids = lay_out([first, second])
    ids = number([one_way], **grids).ids[:, 0]
    other_way, grids = lay_out([second, first])
    swapped = number([other_way], **grids).ids[:, 0]

    def shape(positions, start, rows, columns):
        block = positions[:, start : start + rows * columns * 4]
        return (block - block[:, :1]).tolist()

    lengths = r1 * c1 * 4, r2 * c2 * 4
    assert shape(ids, 1, r1, c1) == shape(swapped, lengths[1] + 3, r1, c1)
    assert shape(ids, lengths[0] + 3, r2, c2) == shape(swapped, 1, r2, c2)
    assert ids[:, -1].tolist() == swapped[:, -1].tolist()


@few
@given(blocks, blocks, st.integers(0, 5))
def test_a_row_has_the_positions_it_has_alone(one, other, filling):
    (ids_a, grids_a), (ids_b, grids_b) = lay_out(one), lay_out(other)
    length = max(len(ids_a), len(ids_b)) + filling
    padded = [[*ids, *[PAD] * (length - len(ids))] for ids in (ids_a, ids_b)]
    mask = [[int(i < len(ids)) for i in range(length)] for ids in (ids_a, ids_b)]
    both = {name: (grids_a[name] or []) + (grids_b[name] or []) or None for name in grids_a}

    together = number(padded, mask=mask, **both)

    for row, (ids, grids) in enumerate([(ids_a, grids_a), (ids_b, grids_b)]):
        alone = number([ids], **grids)
        assert torch.equal(together.ids[:, row, : len(ids)], alone.ids[:, 0])
        assert together.delta[row] == alone.delta[0] + len(ids) - length


@pytest.mark.parametrize(
    ("ids", "grids", "problem"),
    [
        ([IMAGE] * 4, {}, "a block of 4 image placeholders without a grid.*0 grids"),
        ([VIDEO] * 4, {"images": [[1, 1, 1]]}, "4 video placeholders without a grid"),
        ([IMAGE] * 4, {"images": [[1, 1, 2]]}, "image 0: 4 placeholders in the prompt, 8 tokens"),
        ([AUDIO] * 41, {"audios": [1]}, "audio 0: 41 placeholders in the prompt, 40 tokens"),
        ([TEXT], {"images": [[1, 1, 1]]}, "1 image grids, but placeholders of 0 only"),
        ([VIDEO] * 4, {"videos": [[1, 1, 1]]}, "1 videos without second_per_grid_ts"),
    ],
)
def test_misaligned_media_are_an_error_with_both_counts(ids, grids, problem):
    with pytest.raises(RequestError, match=problem):
        number([ids], **grids)


def test_every_video_has_its_own_interval(without_type_checks):
    with pytest.raises(RequestError, match="1 videos, but 2 values of second_per_grid_ts"):
        number([[VIDEO] * 4], videos=[[1, 1, 1]], seconds=[1.0, 2.0])


def test_media_need_their_encoder():
    with pytest.raises(RequestError, match="the prompt holds images, this checkpoint has no"):
        omni_positions(
            torch.tensor([[IMAGE]]),
            config=config_of(SPECIAL, "paper"),
            image_grid_thw=torch.tensor([[1, 1, 1]]),
        )


def test_thirty_thousand_tokens_take_milliseconds():
    parts = [("text", 20_000), ("video", (2000, 1.0)), ("audio", 50), ("text", 100)]
    ids, grids = lay_out(parts)
    assert len(ids) > 30_000
    times = []
    for _ in range(5):
        start = time.process_time()
        number([ids], **grids)
        times.append(time.process_time() - start)
    assert min(times) < 0.05
