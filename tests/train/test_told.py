"""What is told of places and moments, by tokens."""

import dataclasses

import pytest
import torch

from unimoe.config import OmniConfig
from unimoe.data.sample import Box, Moment, OmniSample, Place, Turn
from unimoe.errors import DataError
from unimoe.recipes.tiny import tiny_config
from unimoe.tokens.sequence import Sample
from unimoe.train.told import told_of

CONFIG = tiny_config()
IMAGE, AUDIO = CONFIG.special_tokens.image_pad, CONFIG.special_tokens.audio_pad


def sequence(pads: list[int], **grids: torch.Tensor) -> Sample:
    return Sample(input_ids=torch.tensor(pads), token_counts={}, **grids)


def of_pictures(*places: Place, images: int = 1) -> OmniSample:
    words = "<image>" * images + "What?"
    paths = tuple(f"{n}.png" for n in range(images))
    turns = (Turn("user", words), Turn("assistant", "That."))
    return OmniSample(id="x", conversations=turns, images=paths, places=places)


def test_tokens_whose_middles_lie_in_the_box_show_it() -> None:
    # Two pictures of one tile of 2 x 2 tokens, a word before and between.
    assert CONFIG.vision is not None
    assert CONFIG.vision.pool_side == 2
    sample = sequence(
        [1, *[IMAGE] * 4, 1, *[IMAGE] * 4], image_grid_thw=torch.tensor([[1, 1, 1], [1, 1, 1]])
    )
    omni = of_pictures(
        Place("elsewhere"),
        Place("left", Box(0, 0, 0.5, 1)),
        Place("speck", Box(0.9, 0.9, 0.95, 0.95), image=1),
        images=2,
    )
    found = list(told_of(omni, sample, CONFIG))
    assert found == [
        ([2, 4], "elsewhere", False),
        ([1, 3], "left", False),
        ([9], "speck", False),
    ]


def test_a_whole_picture_is_shown_by_all_tokens_or_where_nothing_else_is_by_none() -> None:
    sample = sequence([*[IMAGE] * 4], image_grid_thw=torch.tensor([[1, 1, 1]]))
    upper, lower = Place("upper", Box(0, 0, 1, 0.5)), Place("lower", Box(0, 0.5, 1, 1))

    alone = list(told_of(of_pictures(Place("all")), sample, CONFIG))
    crowded = list(told_of(of_pictures(Place("elsewhere"), upper, lower), sample, CONFIG))

    assert [shown[:2] for shown in alone] == [([0, 1, 2, 3], "all")]
    assert [shown[:2] for shown in crowded] == [([0, 1], "upper"), ([2, 3], "lower")]


def of_windows(tokens_per_window: int) -> OmniConfig:
    assert CONFIG.vision is not None
    vision = dataclasses.replace(
        CONFIG.vision, aligner_layers=1, tokens_per_window=tokens_per_window
    )
    return dataclasses.replace(CONFIG, vision=vision)


def test_parts_of_words_are_told_by_the_tokens_of_a_window_in_turn() -> None:
    # One tile of 2 x 2 windows, three tokens each.
    sample = sequence([1, *[IMAGE] * 12], image_grid_thw=torch.tensor([[1, 1, 1]]))
    left = Box(0, 0, 0.5, 1)
    omni = of_pictures(
        Place("red | circle | one left", left),
        Place("| circle", left),
        Place("a | b | c | d", left),
    )
    found = [shown[:2] for shown in told_of(omni, sample, of_windows(3))]
    circle = ([2, 8], "circle")
    whole = [([1, 7], "a"), ([2, 8], "b"), ([3, 9], "c d")]
    assert found == [([1, 7], "red"), circle, ([3, 9], "one left"), circle, *whole]


def test_words_in_one_part_are_told_by_the_tokens_that_show_their_place() -> None:
    sample = sequence([IMAGE] * 12, image_grid_thw=torch.tensor([[1, 1, 1]]))
    # Across, tokens have their middles at 1/12, 3/12, ... of the picture.
    letters = of_pictures(
        Place("x", Box(0.2, 0.1, 0.202, 0.102)), Place("y", Box(0.8, 0.7, 0.802, 0.702))
    )
    found = list(told_of(letters, sample, of_windows(3)))
    assert found == [([1], "x", False), ([10], "y", False)]


def test_what_stands_at_a_point_is_said_once_by_a_token_around_it() -> None:
    sample = sequence([1, *[IMAGE] * 12], image_grid_thw=torch.tensor([[1, 1, 1]]))
    # Across, tokens have their middles at 1/12, 3/12, ... of the picture; down, at 1/4 and 3/4.
    letters = of_pictures(
        Place("x", Box(0.3, 0.3, 0.3, 0.3)), Place("y", Box(0.99, 0.1, 0.99, 0.1))
    )
    found = list(told_of(letters, sample, of_windows(3)))
    assert found == [([2, 3, 8, 9], "x", True), ([6], "y", True)]


def test_a_window_of_one_token_is_told_all_parts() -> None:
    sample = sequence([IMAGE] * 4, image_grid_thw=torch.tensor([[1, 1, 1]]))
    omni = of_pictures(Place("red | circle | one left", Box(0.5, 0, 1, 0.5)), Place(" | cat"))
    assert [shown[:2] for shown in told_of(omni, sample, CONFIG)] == [
        ([1], "red circle one left"),
        ([0, 2, 3], "cat"),
    ]


def test_a_picture_of_several_tiles_is_one_plane() -> None:
    sample = sequence([IMAGE] * 8, image_grid_thw=torch.tensor([[1, 1, 2]]))
    found = list(told_of(of_pictures(Place("right", Box(0.5, 0, 1, 1))), sample, CONFIG))
    assert found == [([4, 5, 6, 7], "right", False)]


def test_moments_are_those_of_their_own_sound() -> None:
    assert CONFIG.audio is not None
    seconds = CONFIG.audio.clip_frames / 100
    sample = sequence([AUDIO] * 20 + [1] + [AUDIO] * 40, audio_grid_thw=torch.tensor([1, 2]))
    turns = (Turn("user", "<audio><audio>What?"), Turn("assistant", "That."))
    omni = OmniSample(
        id="x",
        conversations=turns,
        audios=("a.flac", "b.flac"),
        moments=(
            Moment("bell", 0.0, seconds / 4),
            Moment("click", 0.5001 * seconds, 0.5002 * seconds),
            Moment("horn", seconds, 1.5 * seconds, audio=1),
        ),
    )
    found = list(told_of(omni, sample, CONFIG))
    assert [shown[:2] for shown in found] == [
        ([0, 1, 2, 3, 4], "bell"),
        ([10], "click"),
        ([*range(41, 51)], "horn"),
    ]


def test_moments_beside_a_video_are_refused() -> None:
    omni = OmniSample(
        id="x",
        conversations=(Turn("user", "<video><audio>What?"), Turn("assistant", "That.")),
        audios=("a.flac",),
        videos=("a.mp4",),
        moments=(Moment("bell", 0.0, 1.0),),
    )
    with pytest.raises(DataError, match="with videos"):
        list(told_of(omni, sequence([1]), CONFIG))


@pytest.mark.parametrize(
    "place",
    [
        Place(" "),
        Place(" | "),
        Place("x", Box(0.5, 0, 0.5, 1)),
        Place("x", image=1),
        Place("x", Box(0, 0, 1, 2)),
    ],
)
def test_a_place_outside_of_the_pictures_is_refused(place: Place) -> None:
    with pytest.raises(DataError, match="within 0 to 1"):
        of_pictures(place)


@pytest.mark.parametrize(
    "moment", [Moment("", 0, 1), Moment("x", 1, 1), Moment("x", 0, 1, audio=1)]
)
def test_a_moment_outside_of_the_sounds_is_refused(moment: Moment) -> None:
    bare = OmniSample(id="x", conversations=(Turn("user", "<audio>?"),), audios=("a.flac",))
    with pytest.raises(DataError, match="a start before an end"):
        dataclasses.replace(bare, moments=(moment,))
