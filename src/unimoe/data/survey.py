"""The lengths of all samples of a manifest, and which of them are bad.

In:  a manifest, what tells the tokens of a sample.  Out: `Survey`; bad samples have length 0, which
     leaves them out of a `Mixture`, and are told with their place and reason.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from unimoe.data.manifest import Manifest
from unimoe.data.sample import OmniSample
from unimoe.errors import DataError, UnimoeError

_logger = logging.getLogger(__name__)

_NUM_TOLD = 10


class BadSample(NamedTuple):
    """A sample that cannot be used."""

    number: int
    """In its manifest, from 0."""
    reason: str


class Survey(NamedTuple):
    """What a manifest holds."""

    lengths: Int64[np.ndarray, "samples"]
    """Tokens; 0 for a bad sample."""
    tasks: list[str]
    """"" for a bad sample."""
    bad: list[BadSample]


def survey_samples(
    manifest: Manifest,
    num_tokens: Callable[[OmniSample], int],
    *,
    max_bad_share: float = 0.02,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Measure every sample.

    Args:
        manifest: is gone through once.
        num_tokens: of a sample; an error it raises on purpose makes the sample a bad one.
        max_bad_share: more bad ones than that are no accident.
        progress: is told how many of how many are done.

    Raises:
        DataError: too many bad samples, or no good one.
    """
    lengths = np.zeros(len(manifest), np.int64)
    tasks, bad = [""] * len(manifest), list[BadSample]()
    for number in range(len(manifest)):
        try:
            sample = manifest[number]
            lengths[number], tasks[number] = num_tokens(sample), sample.task
        except UnimoeError as error:
            bad.append(BadSample(number, str(error)))
            if len(bad) <= _NUM_TOLD:
                _logger.warning("skipped: %s", error)
        if progress is not None:
            progress(number + 1, len(manifest))
    _require_mostly_good(manifest, bad, max_bad_share)
    return Survey(lengths, tasks, bad)


def lengths_by_task(found: Survey) -> dict[str, Int64[np.ndarray, "samples"]]:
    """A mixture's source for each task of a manifest: lengths, 0 where the task is another."""
    tasks = np.asarray(found.tasks)
    return {
        task: np.where(tasks == task, found.lengths, 0)
        for task in sorted(set(found.tasks))
        if found.lengths[tasks == task].any()
    }


def _require_mostly_good(manifest: Manifest, bad: list[BadSample], max_share: float) -> None:
    if len(manifest) == 0:
        raise DataError(f"{manifest.path}: no samples. Build the set again")
    if not bad:
        return
    told = f"{manifest.path}: {len(bad)} of {len(manifest)} samples are bad"
    if len(bad) > max_share * len(manifest):
        raise DataError(f"{told}, more than {max_share:.0%}. The first: {bad[0].reason}")
    _logger.warning("%s and skipped", told)
