"""The picture of expert use: a panel a modality, layers to the right, experts downwards.

In:  `ExpertUseRecord`.  Out: a PNG file; dark = most tokens take that expert.
"""

from pathlib import Path

import numpy as np

from unimoe.errors import RequestError
from unimoe.evals.routing import summarise
from unimoe.infer.expert_use import ExpertUseRecord

_INCHES_A_LAYER = 0.28
_INCHES_A_ROW = 0.3


def draw_expert_use(record: ExpertUseRecord, path: Path, *, title: str = "") -> None:
    """Draw it.

    Raises:
        RequestError: the path is no PNG, or matplotlib is not installed.
    """
    if path.suffix != ".png":
        raise RequestError(f"{path}: pictures are written as PNG; name a .png file")
    try:
        # Not pyplot: that keeps every figure in global state.
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RequestError("pictures need matplotlib: pip install 'unimoe[eval]'") from error
    summary = summarise(record)
    groups, columns = list(record["expert_use"]), record["columns"]
    num_layers = len(record["expert_use"][groups[0]])
    size = (
        2.5 + _INCHES_A_LAYER * max(num_layers, 16),
        0.9 + len(groups) * (0.5 + _INCHES_A_ROW * len(columns)),
    )
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
    for panel, group in zip(panels, groups, strict=True):
        shares = np.asarray(record["expert_use"][group], float).T
        image = panel.imshow(shares, aspect="auto", cmap="Blues", vmin=0, vmax=1)
        use = summary.groups[group]
        counted = f", {use.num_tokens:,} tokens" if use.num_tokens else ""
        panel.set_title(
            f"{group}: {use.experts_per_token:.2f} experts a token, "
            f"{use.null_share:.0%} of choices null{counted}",
            fontsize=9,
            loc="left",
        )
        panel.set_yticks(range(len(columns)), columns, fontsize=8)
    panels[-1].set_xticks(range(num_layers), [str(n + 1) for n in range(num_layers)], fontsize=7)
    panels[-1].set_xlabel("layer")
    figure.colorbar(image, ax=list(panels), label="share of tokens", shrink=0.8)
    figure.suptitle(title or "Expert use by modality and layer", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
