"""Blocks of a source picture that an edit hardly changed."""

import numpy as np

from unimoe.heads.source_changes import is_repaired, keep_untouched


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """A source, and the same with a little noise everywhere."""
    rng = np.random.default_rng(0)
    source = rng.integers(40, 200, (96, 96, 3)).astype(np.uint8)
    drawn = (source + rng.integers(-9, 10, source.shape)).astype(np.uint8)
    return source, drawn


def test_what_hardly_changed_is_the_source_again() -> None:
    source, drawn = pictures()
    drawn[32:64, 32:64] = 255
    kept = keep_untouched(drawn, source)
    # Between two blocks the one fades into the other, from middle to middle.
    assert (kept[36:60, 36:60] == 255).all()
    outside = np.ones((96, 96), dtype=bool)
    outside[28:68, 28:68] = False
    assert (kept[outside] == source[outside]).all()
    assert (kept[30, 32:64] != source[30, 32:64]).any()


def test_the_edge_of_what_is_removed_goes_with_it() -> None:
    drawn = np.full((96, 96, 3), 240, dtype=np.uint8)
    source = drawn.copy()
    source[32:65, 32:65] = 0  # a pixel of it reaches into the next blocks
    source[80, 5] = 0  # far from it: no block is touched there
    kept = keep_untouched(drawn, source)
    assert (kept[28:70, 28:70] == 240).all()
    assert (kept[80, 5] == 0).all()


def test_a_picture_that_changed_as_a_whole_is_taken_as_drawn() -> None:
    source, drawn = pictures()
    drawn[:, :48] = 255  # half of it
    assert (keep_untouched(drawn, source) == drawn).all()


def test_sides_that_are_no_multiple_of_a_block_are_covered() -> None:
    source, drawn = (picture[:20, :13] for picture in pictures())
    assert (keep_untouched(drawn, source) == source).all()
    assert (keep_untouched(drawn[:5, :5], source[:5, :5]) == source[:5, :5]).all()


def test_noise_is_repaired_and_another_colour_is_not() -> None:
    source, _ = pictures()
    clean = np.full_like(source, 120)
    assert is_repaired(clean, source)
    edited = clean.copy()
    edited[40:48, 40:48] = 200  # 0.3 of the range, in one block
    assert not is_repaired(edited, source)
    assert is_repaired(np.where(edited == 200, 150, edited).astype(np.uint8), source)
