"""Mini as an artist: its core and painter behind the measures of `evals.drawing`.

In:  a session.  Out: pictures; the network of the judges.
"""

from __future__ import annotations

import numpy as np
import torch

from unimoe.errors import PartsError
from unimoe.evals.drawing import Picture
from unimoe.evals.efficientnet import EfficientNetLite, load_efficientnet
from unimoe.infer.drawing import draw
from unimoe.infer.session import OmniInference
from unimoe.parts import fetch, part


class MiniArtist:
    """Draws as `unimoe draw` does.

    Raises:
        RequestError: the session has no painter.
    """

    def __init__(self, session: OmniInference) -> None:
        self._session = session
        self._painter = session.drawn_by()

    def draw(self, prompt: str, thought: str, source: Picture | None) -> Picture:
        """What is asked for, with the seed 0."""
        session = self._session
        *_, picture = draw(
            session.model, session.vocabulary, self._painter, prompt, source, thought=thought
        )
        assert isinstance(picture, np.ndarray)
        return picture

    @torch.inference_mode()
    def rebuild(self, picture: Picture) -> Picture:
        """A picture to latents and back."""
        vae = self._painter.vae
        pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
        rebuilt = vae.decode(vae.encode(pixels))[0].permute(1, 2, 0)
        return (255 * rebuilt).round().to(torch.uint8).numpy()


def judge_network() -> EfficientNetLite:
    """Of the part efficientnet-lite0.

    Raises:
        PartsError: it cannot be fetched.
    """
    found = sorted(fetch(part("efficientnet-lite0")).rglob("*.pth"))
    if len(found) != 1:
        raise PartsError(f"the part efficientnet-lite0 has {len(found)} .pth files; fetch it anew")
    return load_efficientnet(found[0])
