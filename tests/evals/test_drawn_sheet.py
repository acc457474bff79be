import numpy as np

from unimoe.evals.drawn_sheet import Shown, draw_sheet


def picture(grey: int) -> np.ndarray:
    return np.full((96, 96, 3), grey, np.uint8)


def test_every_picture_is_on_the_sheet_with_words_below() -> None:
    tiles = [Shown(f"a thing {grey}", (picture(grey), picture(grey + 1))) for grey in range(7)]

    sheet = np.asarray(draw_sheet(tiles))

    assert sheet.shape[1] == 6 * 200 + 4
    for grey in range(7):
        row, column = divmod(grey, 6)
        top = 4 + row * (sheet.shape[0] - 4) // 2
        left = 4 + column * 200
        assert (sheet[top : top + 96, left : left + 96] == grey).all()
        assert (sheet[top : top + 96, left + 100 : left + 196] == grey + 1).all()
        assert (sheet[top + 97 : top + 110, left : left + 196] < 100).any()


def test_a_single_picture_is_as_wide_as_it_needs() -> None:
    assert draw_sheet([Shown("fox", (picture(9),))]).width == 104
