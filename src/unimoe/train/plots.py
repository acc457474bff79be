"""Pictures of a run, from its journal alone.

In:  the folder of a run.  Out: `curves.png` (losses, rates, speed, experts a token) and, of a
mixture, `experts.png` (use by modality and layer, and how it went over the steps).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from unimoe.errors import RequestError, TrainingError
from unimoe.train.journal import read_journal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = dict[str, Any]
_SMOOTH_STEPS = 20


def draw_run(folder: Path) -> list[Path]:
    """Draw what the journal of a run holds; the files drawn.

    Raises:
        TrainingError: there is no journal, or no step in it.
        RequestError: matplotlib is not installed.
    """
    try:
        lines = list(read_journal(folder))
    except FileNotFoundError as error:
        raise TrainingError(f"{folder} holds no journal; give the folder of a run") from error
    steps = [line for line in lines if "loss" in line]
    if not steps:
        raise TrainingError(f"{folder}: no step in the journal yet; draw it later")
    drawn = [_saved(_curves(steps, lines), folder / "curves.png")]
    uses = [line for line in lines if "expert_use" in line]
    if uses:
        drawn.append(_saved(_experts(uses), folder / "experts.png"))
    return drawn


def _curves(steps: Sequence[Record], lines: Sequence[Record]) -> Figure:
    figure = _figure(12.0, 9.0)
    panels = figure.subplots(3, 2).flatten()
    checked = [line for line in lines if "validation" in line]
    _draw_losses(panels[0], steps, checked)
    _draw_groups(panels[1], steps, "by_task", "loss by task")
    _draw_groups(panels[2], steps, "by_modality", "loss by modality")
    _draw(panels[3], "learning rate", steps, ["lr"])
    _draw(panels[4], "norm of the gradients; tokens a second", steps, ["gradient_norm"], log=True)
    speed = panels[4].twinx()
    _draw(speed, "", steps, ["tokens_per_second"], colour="tab:gray")
    panels[4].legend(fontsize=6, loc="lower left")
    speed.legend(fontsize=6, loc="lower right")
    _draw(panels[5], "experts a token; share of null", steps, ["experts_per_token", "null_share"])
    for panel in panels:
        panel.set_xlabel("step", fontsize=8)
    return figure


def _draw_losses(panel: Axes, steps: Sequence[Record], checked: Sequence[Record]) -> None:
    places, values = _series(steps, lambda line: line["text"])
    panel.plot(places, values, color="tab:blue", alpha=0.25, linewidth=0.8)
    panel.plot(places, _smooth(values), color="tab:blue", label="training")
    for name in dict.fromkeys(name for line in checked for name in line["validation"]):
        known = [line for line in checked if name in line["validation"]]
        at, found = _series(known, lambda line, name=name: line["validation"][name]["text"])
        panel.plot(at, found, marker=".", linewidth=1, label=f"validation: {name}")
    bad = [line["step"] for line in steps if "not_applied" in line]
    panel.plot(bad, np.zeros(len(bad)), "rx", label="not applied" if bad else "_")
    panel.set_title("cross entropy (nats a token)", fontsize=9, loc="left")
    panel.legend(fontsize=6)


def _draw_groups(panel: Axes, steps: Sequence[Record], key: str, title: str) -> None:
    for name in sorted({name for line in steps for name in line[key]}):
        known = [line for line in steps if name in line[key]]
        places, values = _series(known, lambda line, name=name: line[key][name])
        panel.plot(places, _smooth(values), linewidth=1, label=name)
    panel.set_title(f"{title}, mean of {_SMOOTH_STEPS} steps", fontsize=9, loc="left")
    panel.legend(fontsize=6)


def _draw(
    panel: Axes,
    title: str,
    steps: Sequence[Record],
    keys: Sequence[str],
    *,
    log: bool = False,
    colour: str | None = None,
) -> None:
    for key in keys:
        known = [line for line in steps if key in line]
        places, values = _series(known, lambda line, key=key: line[key])
        panel.plot(places, values, linewidth=0.8, label=key, color=colour)
    if log:
        panel.set_yscale("log")
    panel.set_title(title, fontsize=9, loc="left")
    panel.legend(fontsize=6)


def _experts(uses: Sequence[Record]) -> Figure:
    """A row a modality: shares by layer at the end, and means over the layers by step."""
    last = uses[-1]
    groups, columns = list(last["expert_use"]), last["columns"]
    figure = _figure(12.0, 1.2 + 1.9 * len(groups))
    panels = figure.subplots(len(groups), 2, squeeze=False)
    for (map_panel, curve_panel), group in zip(panels, groups, strict=True):
        shares = np.asarray(last["expert_use"][group])  # [layers, columns]
        image = map_panel.imshow(shares.T, aspect="auto", cmap="Blues", vmin=0, vmax=1)
        map_panel.set_title(f"{group}: share of tokens, step {last['step'] + 1}", fontsize=9)
        map_panel.set_yticks(range(len(columns)), columns, fontsize=7)
        map_panel.set_xticks(range(len(shares)), range(1, len(shares) + 1), fontsize=7)
        map_panel.set_xlabel("layer", fontsize=8)
        known = [line for line in uses if group in line["expert_use"]]
        means = np.array([np.mean(line["expert_use"][group], axis=0) for line in known])
        for column, name in enumerate(columns):
            at = [line["step"] + 1 for line in known]
            curve_panel.plot(at, means[:, column], marker=".", linewidth=1, label=name)
        curve_panel.set_title(f"{group}: mean over the layers", fontsize=9)
        curve_panel.set_ylim(0, 1)
        curve_panel.set_xlabel("step", fontsize=8)
        curve_panel.legend(fontsize=6)
    figure.colorbar(image, ax=list(panels[:, 0]), shrink=0.8)
    return figure


def _series(
    lines: Iterable[Record], value_of: Any
) -> tuple[NDArray[np.int64], Float[np.ndarray, " steps"]]:
    """Steps, counted from 1, and values; what was no number is a gap."""
    places, values = [], []
    for line in lines:
        value = value_of(line)
        places.append(line["step"] + 1)
        values.append(math.nan if value is None else float(value))
    return np.array(places, np.int64), np.array(values)


def _smooth(values: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    """Mean of the last steps, fewer at the beginning; gaps count nothing."""
    known = np.isfinite(values)
    sums = np.cumsum(np.where(known, values, 0.0))
    counts = np.cumsum(known)
    sums[_SMOOTH_STEPS:] -= sums[:-_SMOOTH_STEPS].copy()
    counts[_SMOOTH_STEPS:] -= counts[:-_SMOOTH_STEPS].copy()
    smoothed: NDArray[np.float64] = sums / np.where(counts, counts, np.nan)
    return smoothed


def _figure(width: float, height: float) -> Figure:
    try:
        # Not pyplot: that keeps every figure in global state.
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RequestError("pictures need matplotlib: pip install 'unimoe[train]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def _saved(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=110)
    return path
