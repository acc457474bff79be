"""Images: bytes to upright RGB pixels, and pixels to the tiles the vision tower sees.

In:  JPEG, PNG, WebP, GIF (first frame), BMP, TIFF; a PIL image; a uint8 or uint16 array.
Out: uint8 [height, width, 3]; then float32 tiles [tiles, 3, side, side], normalised.
Source: released tiling, no thumbnail tile (docs/sources.md#tiling).
Axes: height, width = pixels; tiles = tile rows x tile columns, row by row; side = of a tile.
"""

import logging
from collections.abc import Callable
from io import BytesIO
from math import ceil
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from unimoe.config import MediaLimits, VisionConfig
from unimoe.errors import MediaError
from unimoe.media.source import (
    DEFAULT_LIMITS,
    MediaSource,
    SourceBytes,
    read_source,
    require_picture_size,
)

ImageSource: TypeAlias = MediaSource | Image.Image | NDArray[Any]

_logger = logging.getLogger(__name__)

# Pillow's own Image.open would warn at 89 megapixels and go on; its readers leave the limit to us.
_READERS: dict[bytes, Callable[[BytesIO], Image.Image]] = {
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"WEBP": WebPImagePlugin.WebPImageFile,
    b"GIF8": GifImagePlugin.GifImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
    b"II*\0": TiffImagePlugin.TiffImageFile,
    b"MM\0*": TiffImagePlugin.TiffImageFile,
}

# A progressive JPEG has about 10; each costs a pass over the whole picture.
_MAX_JPEG_SCANS = 500

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageTiles(NamedTuple):
    """One image, ready for the vision tower."""

    pixel_values: Float32[np.ndarray, "tiles 3 side side"]
    grid_thw: tuple[int, int, int]
    """1, tile rows, tile columns."""


def load_image(
    source: ImageSource, *, limits: MediaLimits = DEFAULT_LIMITS
) -> UInt8[np.ndarray, "height width 3"]:
    """Upright RGB pixels; what was transparent is white, 16 bits keep their upper 8.

    Raises:
        MediaError: unknown kind, damaged, or beyond a limit, which its header already tells.
    """
    if isinstance(source, np.ndarray):
        image, name = _image_of_array(source), "array"
    elif isinstance(source, Image.Image):
        image, name = source, str(getattr(source, "filename", "") or "image")
    else:
        raw = read_source(source, limits=limits)
        image, name = _open_image(raw), raw.name
    require_picture_size(name, *image.size, limits)
    try:
        return _rgb_pixels(_upright(image, name), name)
    except MediaError:
        raise
    except Exception as error:
        raise _damaged(name, error) from error


def on_white(image: Image.Image) -> Image.Image:
    """An RGBA image laid on white, as RGB."""
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image).convert("RGB")


def tile_image(pixels: UInt8[np.ndarray, "height width 3"], config: VisionConfig) -> ImageTiles:
    """Resize into the best grid of tiles, centre on black, cut row by row, normalise."""
    height, width, _ = pixels.shape
    columns, rows = best_tile_grid(width, height, config)
    canvas = _letterboxed(pixels, columns * config.image_side, rows * config.image_side)
    tiles = canvas.reshape(rows, config.image_side, columns, config.image_side, 3)
    tiles = tiles.transpose(0, 2, 4, 1, 3)  # [rows, columns, 3, side, side]
    return ImageTiles(
        _normalised(tiles.reshape(-1, 3, config.image_side, config.image_side), config),
        (1, rows, columns),
    )


def best_tile_grid(width: int, height: int, config: VisionConfig) -> tuple[int, int]:
    """Columns and rows of tiles that keep most of the picture and then waste least canvas.

    Of equal grids the first counts, from few columns to many and, within these, few rows to many.
    """
    side = config.image_side
    candidates = (
        (columns, rows)
        for columns in range(config.min_tile_grid[0], config.max_tile_grid[0] + 1)
        for rows in range(config.min_tile_grid[1], config.max_tile_grid[1] + 1)
    )

    def merit(grid: tuple[int, int]) -> tuple[int, int]:
        canvas_width, canvas_height = grid[0] * side, grid[1] * side
        scale = min(canvas_width / width, canvas_height / height)
        # More pixels than the picture has are no gain.
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - canvas_width * canvas_height

    return max(candidates, key=merit)


def fitted_size(width: int, height: int, max_width: int, max_height: int) -> tuple[int, int]:
    """Width and height of a picture scaled to fill the canvas one way and fit it the other."""
    if max_width / width < max_height / height:
        return max_width, min(ceil(height * (max_width / width)), max_height)
    return min(ceil(width * (max_height / height)), max_width), max_height


def _letterboxed(
    pixels: UInt8[np.ndarray, "height width 3"], width: int, height: int
) -> UInt8[np.ndarray, "canvas_height canvas_width 3"]:
    size = fitted_size(pixels.shape[1], pixels.shape[0], width, height)
    resized = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (width, height))
    canvas.paste(resized, ((width - size[0]) // 2, (height - size[1]) // 2))
    return np.asarray(canvas)


def _normalised(
    tiles: UInt8[np.ndarray, "tiles 3 side side"], config: VisionConfig
) -> Float32[np.ndarray, "tiles 3 side side"]:
    mean = np.asarray(config.pixel_mean, np.float32).reshape(3, 1, 1)
    std = np.asarray(config.pixel_std, np.float32).reshape(3, 1, 1)
    return (tiles.astype(np.float32) / np.float32(255) - mean) / std


def _open_image(raw: SourceBytes) -> Image.Image:
    """Header of an encoded image; its pixels stay encoded."""
    data = raw.data
    # The size stands between the two words by which WebP is known.
    start = b"WEBP" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else data[:8]
    reader = next((reader for magic, reader in _READERS.items() if start.startswith(magic)), None)
    if reader is None:
        raise MediaError(
            f"{raw.name}: no image of a known kind (it starts with {data[:8]!r}). Give JPEG, PNG, "
            f"WebP, GIF, BMP or TIFF"
        )
    num_scans = data.count(b"\xff\xda") if reader is JpegImagePlugin.JpegImageFile else 0
    if num_scans > _MAX_JPEG_SCANS:
        raise MediaError(
            f"{raw.name}: a JPEG of {num_scans:,} scans; at most {_MAX_JPEG_SCANS} are decoded. "
            f"Save it as a baseline JPEG"
        )
    try:
        return reader(BytesIO(data))
    # Pillow's readers answer hostile bytes with any exception, or with a warning turned into one.
    except Exception as error:
        raise _damaged(raw.name, error) from error


def _upright(image: Image.Image, name: str) -> Image.Image:
    """The image as its EXIF orientation says; Pillow has already turned a TIFF when loading it."""
    image.load()
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception as error:
        # Damaged notes about a picture do not damage the picture.
        _logger.warning("%s: unreadable EXIF, taken as upright (%s)", name, error)
        return image
    if orientation not in _UPRIGHT:
        return image
    return image.transpose(_UPRIGHT[orientation])


def _rgb_pixels(image: Image.Image, name: str) -> UInt8[np.ndarray, "height width 3"]:
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise MediaError(
            f"{name}: a picture of mode {image.mode}, whose white has no agreed value. Save it "
            f"with 8 or 16 bits a channel"
        )
    if image.has_transparency_data:
        return np.asarray(on_white(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


def _image_of_array(pixels: NDArray[Any]) -> Image.Image:
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if not fits or pixels.dtype not in (np.uint8, np.uint16) or 0 in pixels.shape:
        raise MediaError(
            f"array of {pixels.dtype} {list(pixels.shape)}: need uint8 or uint16 [height, width], "
            f"[height, width, 3] or [height, width, 4]. Scale it to 0..255 and convert it"
        )
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    return Image.fromarray(pixels)


def _damaged(name: str, error: Exception) -> MediaError:
    return MediaError(
        f"{name}: a damaged or unusual image ({type(error).__name__}: {error}). Save it again "
        f"with an image program"
    )
