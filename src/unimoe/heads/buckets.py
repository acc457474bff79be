"""Size buckets: the sizes an image is drawn in, all of about as many pixels as a square.

In:  size of a source image in pixels.  Out: the size to draw, whole patches both ways.
Source: PixWizard, from Lumina (docs/sources.md#flow).
"""

PATCH_PIXELS = 16
"""An autoencoder that halves three times, and patches of 2 x 2 latents."""
MAX_ASPECT = 4.0


def size_buckets(square_side: int) -> list[tuple[int, int]]:
    """(width, height) of every bucket, from the widest to the tallest.

    At most as many patches as the square has, and never more than four times as long as wide. One
    walk through all the widths, of each the heights that no shorter one already had:

    >>> size_buckets(32)
    [(64, 16), (48, 16), (32, 16), (32, 32), (16, 32), (16, 48), (16, 64)]
    """
    num_patches = (square_side // PATCH_PIXELS) ** 2
    across, down = num_patches, 1
    buckets = []
    while across > 0:
        if max(across, down) <= MAX_ASPECT * min(across, down):
            buckets.append((across * PATCH_PIXELS, down * PATCH_PIXELS))
        if across * (down + 1) <= num_patches:
            down += 1
        else:
            across -= 1
    return buckets


def nearest_bucket(width: int, height: int, *, square_side: int) -> tuple[int, int]:
    """The bucket of the nearest width over height; of equals the first.

    >>> nearest_bucket(481, 321, square_side=768)
    (928, 624)

    Args:
        width: of the source image, in pixels.
        height: likewise.
        square_side: of the square bucket, in pixels; 768 as released.
    """
    return min(size_buckets(square_side), key=lambda size: abs(size[0] / size[1] - width / height))
