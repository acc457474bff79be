"""Every kind of image becomes upright RGB; every odd one a MediaError with its remedy."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file

from tests.media.made_media import encode_image, png_bomb
from unimoe.config import MediaLimits, VisionConfig
from unimoe.errors import MediaError
from unimoe.media import load_image, tile_image
from unimoe.media.image import best_tile_grid, fitted_size

GOLDEN = Path(__file__).parents[1] / "golden" / "tiling"
CASES = json.loads((GOLDEN / "tiling.json").read_text())["cases"]
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners(pixels: np.ndarray) -> list[tuple[int, ...]]:
    """Top left, top right, bottom left, bottom right."""
    return [tuple(pixels[y, x].tolist()) for y in (0, -1) for x in (0, -1)]


def four_colours(width: int = 8, height: int = 4) -> Image.Image:
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(WHITE, (width // 2, height // 2, width, height))
    return image


def vision(**changes: object) -> VisionConfig:
    settings: dict[str, object] = {
        "hidden_size": 8,
        "num_layers": 1,
        "num_heads": 1,
        "ffn_width": 8,
        "image_side": 384,
        "patch_side": 14,
        "pool_side": 12,
    }
    return VisionConfig(**(settings | changes))  # type: ignore[arg-type]


def vision_of_pinpoints(pinpoints: str) -> VisionConfig:
    pairs = [tuple(map(int, pair.split("x"))) for pair in pinpoints.strip("()").split("),(")]
    return vision(min_tile_grid=pairs[0], max_tile_grid=pairs[-1])


# Kinds


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_lossless_kinds_keep_every_pixel(kind: str) -> None:
    data = encode_image(four_colours(), kind, **({"lossless": True} if kind == "WEBP" else {}))

    assert np.array_equal(load_image(data), np.asarray(four_colours()))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg_keeps_the_picture(options: dict[str, object]) -> None:
    data = encode_image(four_colours(64, 64), "JPEG", quality=95, **options)

    assert np.abs(load_image(data).astype(int) - np.asarray(four_colours(64, 64))).mean() < 4


def test_the_kind_is_told_by_content_and_not_by_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode_image(four_colours(), "PNG"))

    assert load_image(path).shape == (4, 8, 3)


def test_gif_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN)]
    data = encode_image(frames[0], "GIF", save_all=True, append_images=frames[1:])

    assert corners(load_image(data)) == [RED] * 4


def test_pil_image_and_array_are_taken_as_they_are() -> None:
    image = four_colours()

    assert np.array_equal(load_image(image), np.asarray(image))
    assert np.array_equal(load_image(np.asarray(image)), np.asarray(image))


# Colours


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.new("RGB", (4, 4), WHITE).convert("L" if mode == "LA" else "RGB").convert(mode)

    assert np.abs(load_image(image).astype(int) - 255).max() <= 1


def test_cmyk_jpeg_keeps_its_colour() -> None:
    data = encode_image(Image.new("RGB", (16, 16), RED).convert("CMYK"), "JPEG", quality=95)

    assert np.abs(load_image(data).astype(int) - RED).max() <= 4


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_upper_8_bits(kind: str) -> None:
    samples = np.array([[0, 255, 256, 32768, 65535]], np.uint16)

    pixels = load_image(encode_image(Image.fromarray(samples), kind))

    assert pixels[0].tolist() == [[0] * 3, [0] * 3, [1] * 3, [128] * 3, [255] * 3]


def test_big_endian_16_bit_tiff_is_read() -> None:
    # Header, then one directory of eight entries, then two samples.
    def entry(tag: int, kind: int, value: int) -> bytes:
        packed = value.to_bytes(2) + b"\0\0" if kind == 3 else value.to_bytes(4)
        return tag.to_bytes(2) + kind.to_bytes(2) + (1).to_bytes(4) + packed

    offset = 8 + 2 + 8 * 12 + 4
    entries = [(256, 3, 2), (257, 3, 1), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, offset)]
    entries += [(278, 3, 1), (279, 4, 4)]
    directory = (8).to_bytes(2) + b"".join(entry(*e) for e in entries) + bytes(4)
    data = b"MM\0*" + (8).to_bytes(4) + directory + b"\x80\x00\xff\xff"

    assert load_image(data)[0].tolist() == [[128] * 3, [255] * 3]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_without_an_agreed_white_are_refused(mode: str) -> None:
    data = encode_image(Image.new(mode, (4, 4)), "TIFF")

    with pytest.raises(MediaError, match="no agreed value"):
        load_image(data)


# Transparency


@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (255, 0), (51, 204)])
def test_alpha_lies_on_white(alpha: int, expected: int) -> None:
    data = encode_image(Image.new("RGBA", (2, 2), (0, 0, 0, alpha)), "PNG")

    assert load_image(data).tolist() == [[[expected] * 3] * 2] * 2


def test_transparent_palette_entry_is_white() -> None:
    image = four_colours().quantize(4)
    transparent = image.getpixel((0, 0))
    data = encode_image(image, "PNG", transparency=transparent)

    assert corners(load_image(data)) == [WHITE, GREEN, BLUE, WHITE]


def test_transparent_colour_of_an_rgb_png_is_white() -> None:
    data = encode_image(four_colours(), "PNG", transparency=RED)

    assert corners(load_image(data)) == [WHITE, GREEN, BLUE, WHITE]


def test_transparent_gif_background_is_white() -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((0, 0), (255, 0, 0, 255))

    assert corners(load_image(encode_image(image, "GIF"))) == [RED, WHITE, WHITE, WHITE]


# Orientation


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [RED, GREEN, BLUE, WHITE]),
        (2, [GREEN, RED, WHITE, BLUE]),
        (3, [WHITE, BLUE, GREEN, RED]),
        (4, [BLUE, WHITE, RED, GREEN]),
        (5, [RED, BLUE, GREEN, WHITE]),
        (6, [BLUE, RED, WHITE, GREEN]),
        (7, [WHITE, GREEN, BLUE, RED]),
        (8, [GREEN, WHITE, RED, BLUE]),
        (9, [RED, GREEN, BLUE, WHITE]),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_undone(kind: str, orientation: int, expected: object) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}

    pixels = load_image(encode_image(four_colours(), kind, exif=exif, **options))

    assert corners(pixels) == expected
    assert pixels.shape == ((8, 4, 3) if 5 <= orientation <= 8 else (4, 8, 3))


def test_damaged_exif_leaves_the_picture_upright() -> None:
    data = encode_image(four_colours(), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff broken")

    assert corners(load_image(data)) == [RED, GREEN, BLUE, WHITE]


# Arrays


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((2, 2), 7, np.uint8), 7),
        (np.full((2, 2), 7 * 256, np.uint16), 7),
        (np.full((2, 2, 3), 7, np.uint8), 7),
        (np.zeros((2, 2, 4), np.uint8), 255),
    ],
)
def test_arrays_of_every_layout_become_rgb(array: np.ndarray, expected: int) -> None:
    assert load_image(array).tolist() == [[[expected] * 3] * 2] * 2


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2, 3), np.float32),
        np.zeros((3, 20, 20), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros(5, np.uint8),
        np.zeros((2, 2), bool),
    ],
)
def test_arrays_of_doubtful_meaning_are_refused(array: np.ndarray) -> None:
    with pytest.raises(MediaError, match="need uint8 or uint16"):
        load_image(array)


# Limits and damage


def test_bomb_of_100_megapixels_is_refused_from_its_header() -> None:
    with pytest.raises(
        MediaError,
        match=r"100,000,000 pixels \(10000 x 10000\); max_pixels allows 50,000,000\. Scale it down",
    ):
        load_image(png_bomb(10_000, 10_000))


def test_bomb_beyond_pillows_own_limit_is_ours_too() -> None:
    with pytest.raises(MediaError, match="max_pixels"):
        load_image(png_bomb(60_000, 60_000))


def test_raising_max_pixels_admits_what_pillow_would_warn_about() -> None:
    data = encode_image(Image.new("1", (10_000, 10_000)), "PNG")

    assert load_image(data, limits=MediaLimits(max_pixels=10**8)).shape == (10_000, 10_000, 3)


@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1)])
def test_thin_strip_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(MediaError, match=r"10,000 times as long .* max_aspect allows 200\. Crop"):
        load_image(Image.new("RGB", size))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_cut_off_image_is_refused_and_never_filled_with_grey(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encode_image(Image.fromarray(noise), kind)

    with pytest.raises(MediaError, match="damaged or unusual image"):
        load_image(data[: len(data) * 2 // 3])


def test_text_renamed_jpg_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_text("this is no photo")

    with pytest.raises(MediaError, match=r"photo\.jpg: no image .* Give JPEG, PNG"):
        load_image(path)


def test_jpeg_of_a_thousand_scans_is_refused() -> None:
    data = encode_image(four_colours(), "JPEG") + b"\xff\xda" * 1000

    with pytest.raises(MediaError, match="1,001 scans"):
        load_image(data)


# Tiling


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['size']}-{case['grid_pinpoints']}")
def test_tiling_geometry_equals_the_released_one(case: dict[str, object]) -> None:
    config = vision_of_pinpoints(case["grid_pinpoints"])
    width, height = case["size"]
    columns, rows = best_tile_grid(width, height, config)
    resized = fitted_size(width, height, columns * 384, rows * 384)

    assert [columns * 384, rows * 384] == case["best_resolution"]
    assert [1, rows, columns] == case["grid_thw"]
    assert list(resized) == case["resized"]
    offset = [(columns * 384 - resized[0]) // 2, (rows * 384 - resized[1]) // 2]
    assert offset == case["paste_offset"]


def test_tile_pixels_equal_the_released_ones() -> None:
    golden = load_file(GOLDEN / "pixels.safetensors")
    settings = json.loads((GOLDEN / "pixels.json").read_text())

    tiles = tile_image(golden["image_uint8"], vision_of_pinpoints(settings["grid_pinpoints"]))

    assert list(tiles.grid_thw) == golden["grid_thw"][0].tolist()
    assert list(tiles.pixel_values.shape) == settings["shape"]
    # Tolerances of the fixture's README: one or two grey levels; means and deviations of tiles.
    sampled = tiles.pixel_values[:, :, ::6, ::6]
    np.testing.assert_allclose(sampled, golden["tiles_every_6th_pixel"], atol=0.012)
    np.testing.assert_allclose(tiles.pixel_values.mean((2, 3)), golden["tile_mean"], atol=1e-3)
    np.testing.assert_allclose(
        tiles.pixel_values.std((2, 3), ddof=1), golden["tile_std"], atol=1e-3
    )


def test_tiles_go_row_by_row_and_empty_canvas_is_black() -> None:
    pixels = np.asarray(four_colours(16, 16))
    config = vision(
        image_side=8,
        patch_side=4,
        pool_side=2,
        min_tile_grid=(2, 2),
        max_tile_grid=(2, 2),
        pixel_mean=(0.0, 0.0, 0.0),
        pixel_std=(1.0, 1.0, 1.0),
    )

    square = tile_image(pixels, config).pixel_values
    wide = tile_image(pixels[:8], config).pixel_values

    assert [tile[:, 4, 4].tolist() for tile in square] == [
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [1, 1, 1],
    ]
    assert wide[0][:, 0, 0].tolist() == [0, 0, 0]
    assert wide[0][:, 7, 0].tolist() == [1, 0, 0]


@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    columns=st.integers(1, 6),
    rows=st.integers(1, 6),
)
def test_resized_picture_fills_the_canvas_one_way_and_fits_the_other(
    width: int, height: int, columns: int, rows: int
) -> None:
    fitted = fitted_size(width, height, columns * 384, rows * 384)

    assert fitted[0] == columns * 384 or fitted[1] == rows * 384
    assert 1 <= fitted[0] <= columns * 384
    assert 1 <= fitted[1] <= rows * 384


@given(st.binary(min_size=1, max_size=64))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MediaError):
        load_image(io.BytesIO(data))
