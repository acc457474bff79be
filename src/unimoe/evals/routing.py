"""What the routers have become: experts a token by modality, dead experts, how far they part ways.

In:  `ExpertUseRecord` values, of windows, tasks, a training journal or one chat.
Out: one record of all, and `RoutingSummary`.
Axes: layers = MoE layers, columns = routed | null, groups = what tokens stand for.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from unimoe.errors import DataError, RequestError
from unimoe.infer.engine import generate
from unimoe.infer.expert_use import ExpertUseByGroup, ExpertUseRecord
from unimoe.infer.sampling import SamplingOptions
from unimoe.infer.session import OmniInference
from unimoe.tokens.batch import collate
from unimoe.tokens.message import Message
from unimoe.tokens.sequence import encode_chat

DEAD_SHARE = 0.001
"""An expert that takes fewer tokens of every group is dead."""
_NULL = "null"


class GroupUse(NamedTuple):
    """Means over the tokens of a group and the layers."""

    experts_per_token: float
    null_share: float
    """Share of null experts among all choices."""
    favourite: str
    """The column most tokens take, and their share."""
    favourite_share: float
    num_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutingSummary:
    """In numbers."""

    groups: dict[str, GroupUse]
    dead: tuple[tuple[int, str], ...]
    """Layer and column of experts that nobody takes, layers counted from 1."""
    divergence_bits: float
    """Between the choices of two groups: mean over pairs and layers of the Jensen-Shannon
    divergence; 0: all modalities take the same experts, 1: none in common."""


def combined(records: Sequence[ExpertUseRecord]) -> ExpertUseRecord | None:
    """One record of several, weighted by their tokens; None of none.

    Raises:
        DataError: they are of different models.
    """
    if not records:
        return None
    columns = records[0]["columns"]
    total: dict[str, Any] = {}
    num_tokens: dict[str, int] = {}
    for record in records:
        if record["columns"] != columns:
            raise DataError(f"expert use of {record['columns']} and of {columns}; need one model's")
        for group, shares in record["expert_use"].items():
            count = record["num_tokens"][group]
            total[group] = total.get(group, 0) + count * np.asarray(shares)
            num_tokens[group] = num_tokens.get(group, 0) + count
    use = {group: (sums / num_tokens[group]).round(4).tolist() for group, sums in total.items()}
    return {"expert_use": use, "columns": columns, "num_tokens": num_tokens}


def summarise(record: ExpertUseRecord) -> RoutingSummary:
    """The numbers behind the picture."""
    columns = record["columns"]
    is_null = np.array([name.startswith(_NULL) for name in columns])
    shares = {group: _shares(layers, group) for group, layers in record["expert_use"].items()}
    groups = {}
    for group, use in shares.items():
        favourite = int(use.mean(0).argmax())
        groups[group] = GroupUse(
            experts_per_token=float(use[:, ~is_null].sum(1).mean()),
            null_share=float(use[:, is_null].sum() / max(use.sum(), 1e-9)),
            favourite=columns[favourite],
            favourite_share=float(use[:, favourite].mean()),
            num_tokens=record["num_tokens"].get(group, 0),
        )
    most = np.max(list(shares.values()), axis=0)
    dead = [
        (int(layer) + 1, columns[column])
        for layer, column in np.argwhere(most < DEAD_SHARE)
        if not is_null[column]
    ]
    pairs = [_divergence_bits(shares[a], shares[b]) for a, b in combinations(shares, 2)]
    return RoutingSummary(
        groups=groups, dead=tuple(dead), divergence_bits=float(np.mean(pairs)) if pairs else 0.0
    )


class RoutedChat(NamedTuple):
    """An answer, and which experts it took to read and to write."""

    text: str
    expert_use: ExpertUseRecord


def routed_chat(
    session: OmniInference, messages: Sequence[Message], *, max_new_tokens: int = 64
) -> RoutedChat:
    """Answer one conversation greedily and record its expert use.

    Raises:
        RequestError: the model is dense, or as `OmniInference.respond`.
        MediaError: a medium cannot be used.
    """
    model, vocabulary = session.model, session.vocabulary
    core = model.config.core
    if core.moe is None:
        raise RequestError("this model is dense: it has no routers to draw")
    use = ExpertUseByGroup(core.moe.router, core.num_layers, model.device)
    prompt = encode_chat(messages, vocabulary, model.config, limits=session.limits)
    batch = collate([prompt], pad_id=model.config.special_tokens.pad, padding="left")
    ends = tuple(sorted(vocabulary.end_ids))
    options = SamplingOptions(max_new_tokens=max_new_tokens, stop_tokens=ends, seed=0)
    (tokens,) = generate(model, batch, options, expert_use=use).tokens()
    return RoutedChat(vocabulary.decode(tokens).strip(), use.record())


def read_expert_use(path: Path) -> ExpertUseRecord:
    """The expert use that an evaluation, a training run or a JSON file holds.

    Args:
        path: a folder with `expert_use.json` or with `journal.jsonl`, whose last record counts; or
            one of these files.

    Raises:
        DataError: there is none, or it has another form.
    """
    candidates = [path / "expert_use.json", path / "journal.jsonl"] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            rows = _rows(candidate)
            with_use = [row for row in rows if isinstance(row, dict) and row.get("expert_use")]
            if not with_use:
                raise DataError(
                    f"{candidate}: no expert use in it; a dense model has none, and a training "
                    "run writes it at intervals"
                )
            return _whole(with_use[-1], candidate)
    raise DataError(
        f"{path}: need a folder with expert_use.json (an evaluation) or journal.jsonl (a run), "
        "or such a file"
    )


def _rows(path: Path) -> list[Any]:
    text = path.read_text("utf-8")
    try:
        if path.suffix != ".jsonl":
            return [json.loads(text)]
        whole = text.rpartition("\n")[0]  # a run may be writing its last line
        return [json.loads(line) for line in whole.splitlines() if line]
    except ValueError as error:
        raise DataError(f"{path}: no JSON ({error})") from error


def _whole(row: dict[str, Any], path: Path) -> ExpertUseRecord:
    """With names of columns and counts, which may be left out."""
    use = row["expert_use"]
    shapes = {_shares(layers, f"{path}: {group}").shape for group, layers in use.items()}
    if len(shapes) != 1:
        raise DataError(f"{path}: groups differ in layers or columns: {sorted(shapes)}")
    num_columns = shapes.pop()[1]
    columns = row.get("columns") or [f"column {place + 1}" for place in range(num_columns)]
    if len(columns) != num_columns:
        raise DataError(f"{path}: {len(columns)} names for {num_columns} columns")
    counts = row.get("num_tokens") or {}
    return {"expert_use": use, "columns": columns, "num_tokens": counts}


def _shares(layers: object, where: str) -> Float64[np.ndarray, "layers columns"]:
    try:
        shares = np.asarray(layers, float)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: need a list of shares for every layer ({error})") from error
    if shares.ndim != 2 or shares.size == 0:
        raise DataError(f"{where}: need a list of shares for every layer, got shape {shares.shape}")
    return shares


def _divergence_bits(
    ours: Float64[np.ndarray, "layers columns"], theirs: Float64[np.ndarray, "layers columns"]
) -> float:
    """Mean over layers of the Jensen-Shannon divergence of two groups' choices."""
    p, q = (use / np.maximum(use.sum(1, keepdims=True), 1e-9) for use in (ours, theirs))
    middle = (p + q) / 2

    def entropy_bits(shares: Float64[np.ndarray, "layers columns"]) -> Any:
        return -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(1)

    found = entropy_bits(middle) - (entropy_bits(p) + entropy_bits(q)) / 2
    return float(np.maximum(found, 0).mean())
