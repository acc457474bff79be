"""Mini as an artist: its core and painter behind the measures of `evals.drawing`.

In:  a session.  Out: pictures.
"""

from __future__ import annotations

import numpy as np

from unimoe.evals.drawing import Picture
from unimoe.infer.drawing import draw
from unimoe.infer.session import OmniInference


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

    def rebuild(self, picture: Picture) -> Picture:
        """A picture to latents and back."""
        return self._painter.rebuilt(picture)
