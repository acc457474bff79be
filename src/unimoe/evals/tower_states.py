"""States of the frozen towers, once for every picture or clip that several questions share.

In:  a prompt with signals.  Out: the same prompt with what the towers make of them.
In memory they are exact, and forgotten after every window of samples. In a folder they stay, as
float16 as training does, for the next evaluation: that part of the work is then done once for all.
Axes: rows = tiles or clips, steps = patches or audio frames.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unimoe.config import OmniConfig
from unimoe.errors import RequestError
from unimoe.media.image import load_image, tile_image
from unimoe.model.omni import OmniModel
from unimoe.tokens.sequence import Sample
from unimoe.train.store import PreparedFolder, tower_stores

Tower = Literal["vision", "audio"]
_ROWS_AT_ONCE = 8
_SIGNALS: tuple[tuple[str, str, Tower], ...] = (
    ("pixel_values", "image_states", "vision"),
    ("pixel_values_videos", "video_states", "vision"),
    ("audio_features", "audio_states", "audio"),
)


class TowerStates:
    """The towers of one model.

    Args:
        model: its towers are asked.
        folder: keep the states here; None: only in memory.
    """

    def __init__(self, model: OmniModel, folder: PreparedFolder | None = None) -> None:
        self._model = model
        self._seen: dict[bytes, Tensor] = {}
        self._stores = {} if folder is None else tower_stores(folder)

    def of(self, prompt: Sample) -> Sample:
        """The prompt with states in place of signals."""
        changes: dict[str, Any] = {}
        for signals_name, states_name, tower in _SIGNALS:
            signals = getattr(prompt, signals_name)
            if signals is not None:
                changes |= {signals_name: None, states_name: self._states(tower, signals)}
        return dataclasses.replace(prompt, **changes)

    def vision(self, tiles: Float[Tensor, "rows 3 side side"]) -> Float[Tensor, "rows steps width"]:
        """States of single tiles."""
        return self._states("vision", tiles)

    def close(self) -> None:
        """Let others write into the folder."""
        for store in self._stores.values():
            store.close()

    def forget(self) -> None:
        """Let go of what is in memory."""
        self._seen.clear()

    def _states(
        self, tower: Tower, signals: Float[Tensor, "rows ..."]
    ) -> Float[Tensor, "rows steps width"]:
        encode = self._encoder(tower)
        if tower in self._stores:
            store = self._stores[tower]
            rows = store.rows_of(signals, encode)
            return torch.from_numpy(store.mapped()[rows]).float()
        keys = [hashlib.sha256(signal.numpy().tobytes()).digest() for signal in signals]
        new = {key: row for row, key in enumerate(keys) if key not in self._seen}
        fresh = list(new.items())
        for start in range(0, len(fresh), _ROWS_AT_ONCE):
            some = fresh[start : start + _ROWS_AT_ONCE]
            states = encode(signals[[row for _, row in some]])
            self._seen.update(zip((key for key, _ in some), states, strict=True))
        return torch.stack([self._seen[key] for key in keys])

    def _encoder(self, tower: Tower) -> Callable[[Tensor], Tensor]:
        model = self._model
        encoder = model.vision if tower == "vision" else model.audio
        assert encoder is not None  # encode_chat refuses media the model has no encoder for

        def states(signals: Tensor) -> Tensor:
            with torch.inference_mode():
                return encoder.states(signals.to(model.device, model.dtype)).float().cpu()

        return states


class TowerEye:
    """Pictures in numbers: mean and maximum of their patches' states, first tile only.

    What the tower makes of them alone, without the colours that may stand beside.
    """

    def __init__(self, states: TowerStates, config: OmniConfig) -> None:
        if config.vision is None:
            raise RequestError("a probe of the vision tower needs a model that has one")
        self._states = states
        self._vision = config.vision

    def features(self, images: Sequence[Path]) -> Float[Tensor, "items features"]:
        """One row a picture."""
        rows = []
        for start in range(0, len(images), _ROWS_AT_ONCE):
            some = images[start : start + _ROWS_AT_ONCE]
            tiles = [tile_image(load_image(path), self._vision).pixel_values[0] for path in some]
            states = self._states.vision(torch.from_numpy(np.stack(tiles)))
            self._states.forget()
            patches = states[:, : self._vision.patches_across**2, : self._vision.hidden_size]
            rows.append(torch.cat([patches.mean(1), patches.amax(1)], dim=1))
        return torch.cat(rows)
