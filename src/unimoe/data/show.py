"""What a data set holds, in words: one that was built here, or anybody's manifest.

In:  a folder with `dataset.json`, or a manifest.  Out: text for a terminal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from unimoe.data.manifest import Manifest, media_file, read_manifest
from unimoe.data.sample import OmniSample
from unimoe.data.splits import SPLITS
from unimoe.data.survey import survey_samples
from unimoe.errors import DataError


def describe_set(folder: Path, num_examples: int = 2) -> str:
    """The card of a built set, where it lies, and the first samples of each split.

    Raises:
        DataError: there is no whole set.
    """
    card = folder / "card.md"
    if not card.is_file():
        raise DataError(f"{folder}: no data set. Build it first: unimoe data build NAME")
    lines = [card.read_text(encoding="utf-8").rstrip()]
    for split in SPLITS:
        manifest = read_manifest(folder / f"{split}.jsonl")
        lines += ["", f"## {split}", *_examples(manifest[:num_examples])]
    return "\n".join([*lines, "", f"{folder}"])


def describe_manifest(path: Path, num_examples: int = 4) -> str:
    """What a manifest holds, after every sample has been read and its media looked for.

    Raises:
        DataError: it cannot be read, or more than a few of its samples are bad.
    """
    manifest = read_manifest(path)
    tasks, inputs = Counter[str](), Counter[str]()

    def count(sample: OmniSample) -> int:
        for medium in sample.media_paths:
            media_file(manifest.folder, medium)
        tasks[sample.task or "no task"] += 1
        inputs[sample.modalities] += 1
        return 1

    found = survey_samples(manifest, count)
    good = [manifest[int(n)] for n in found.lengths.nonzero()[0][:num_examples]]
    return "\n".join(
        [
            f"{len(manifest):,} samples, {len(found.bad):,} of them bad",
            f"by input: {_listed(inputs)}",
            f"by task: {_listed(tasks)}",
            *_examples(good),
        ]
    )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.most_common())


def _examples(samples: Iterable[OmniSample] | Manifest) -> list[str]:
    lines = []
    for sample in samples:
        media = ", ".join(sample.media_paths)
        lines += ["", f"{sample.id}{f' ({media})' if media else ''}"]
        lines += [f"  {turn.role}: {turn.text!r}" for turn in sample.conversations]
    return lines
