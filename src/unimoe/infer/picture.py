"""A picture as a value: how it is asked for, and what was drawn.

In:  options of a request.  Out: uint8 [height, width, 3]; picture files.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from unimoe.config import DRAWING_GUIDANCE, DRAWING_STEPS
from unimoe.errors import MediaError
from unimoe.infer.sampling import check_number

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawingOptions:
    """How a picture is drawn.

    Raises:
        RequestError: a value is out of range.
    """

    steps: int = DRAWING_STEPS
    """From noise to picture."""
    guidance_scale: float = DRAWING_GUIDANCE
    """1 follows the words as they are; above, away from what would be drawn without them."""

    def __post_init__(self) -> None:
        check_number("steps", self.steps, low=1.0, whole=True)
        check_number("guidance_scale", self.guidance_scale, low=0.0)


@dataclass(frozen=True, slots=True)
class Drawing:
    """What was drawn."""

    pixels: UInt8[np.ndarray, "height width 3"]

    def save(self, path: str | Path) -> None:
        """Write a file; its ending tells the kind: .png, .jpg or .webp.

        Raises:
            MediaError: another ending.
        """
        ending = Path(path).suffix.lower()
        if ending not in _ENDINGS:
            raise MediaError(f"{path}: a picture ends in one of {', '.join(_ENDINGS)}")
        Image.fromarray(self.pixels).save(path)
