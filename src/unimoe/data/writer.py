"""Writing a data set: media and samples go in one by one, a folder that is whole comes out.

    train.jsonl  validation.jsonl  test.jsonl     samples, media paths relative to the folder
    images/  audios/  videos/                     named by the hash of their bytes
    dataset.json  card.md  contact_sheet.png      rules and counts, prose, examples

What would leak from one split into another is refused when it is added. All is written beside the
folder and renamed at the end: a half-built set is never taken for whole.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import logging
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from jaxtyping import UInt8
from numpy.typing import ArrayLike
from PIL import Image

from unimoe.config import AUDIO_RATE_HZ
from unimoe.data.card import DataCard, SetFacts, write_card
from unimoe.data.manifest import line_of
from unimoe.data.sample import MediaKind, OmniSample
from unimoe.data.sheet import draw_contact_sheet
from unimoe.data.splits import SPLITS, Split, unit_hash
from unimoe.errors import DataError, MediaError
from unimoe.media.audio import AudioSource
from unimoe.media.encode import encode_audio, encode_image, encode_video

_NUM_EXAMPLES, _EXAMPLES_PER_TASK = 30, 15
_TOLD_EVERY_S = 5.0

_logger = logging.getLogger(__name__)


class DatasetWriter:
    """Builds one data set; used as a context, so that a failed build leaves nothing.

    Args:
        folder: where it will stand; what stood there is replaced when the new set is whole.
        name: of the set.
        seed: of the build; recorded, and choosing the examples shown.
        disjoint: traits whose values never occur in two splits, such as "sentence".
        held_out: values of traits that never occur in training, such as {"voice": {"slt"}}.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        seed: int = 0,
        *,
        disjoint: Collection[str] = (),
        held_out: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.facts = SetFacts(
            name=name,
            seed=seed,
            disjoint=sorted(disjoint),
            held_out={trait: sorted(values) for trait, values in (held_out or {}).items()},
        )
        self._building = self.folder.with_name(self.folder.name + ".tmp")
        shutil.rmtree(self._building, ignore_errors=True)
        self._building.mkdir(parents=True)
        self._manifests: dict[str, IO[str]] = {
            split: self._path(f"{split}.jsonl").open("w", encoding="utf-8", newline="\n")
            for split in SPLITS
        }
        self._media: set[str] = set()
        self._ids: set[str] = set()
        self._split_of: dict[str, Split] = {}
        self._told_at = time.monotonic()
        self._examples: dict[str, list[tuple[float, str, OmniSample]]] = {}

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._close_manifests()
        shutil.rmtree(self._building, ignore_errors=True)

    def image(self, key: str, picture: Image.Image) -> str:
        """Keep a picture, lossless; its path for a sample.

        Args:
            key: what it is, for messages.
            picture: RGB or grey, without transparency.
        """
        with _told(key):
            return self._keep("images", encode_image(picture), "webp")

    def audio(
        self, key: str, samples: ArrayLike, rate_hz: int, *, kept_rate_hz: int = AUDIO_RATE_HZ
    ) -> str:
        """Keep a sound as FLAC, one channel; its path for a sample.

        Args:
            key: what it is, for messages.
            samples: [samples] or [samples, channels].
            rate_hz: of the samples.
            kept_rate_hz: of the file.
        """
        with _told(key):
            encoded = encode_audio((samples, rate_hz), sample_rate_hz=kept_rate_hz)
            return self._keep("audios", encoded, "flac")

    def video(
        self,
        key: str,
        frames: Sequence[UInt8[np.ndarray, "height width 3"]],
        frame_rate_fps: float | int,
        sound: AudioSource | None = None,
    ) -> str:
        """Keep a film as MP4 with its sound (samples, rate_hz); its path for a sample."""
        with _told(key):
            return self._keep("videos", encode_video(frames, frame_rate_fps, sound), "mp4")

    def copy(self, kind: MediaKind, file: Path) -> str:
        """Keep a medium of another set, byte for byte; its path for a sample."""
        return self._keep(f"{kind}s", file.read_bytes(), file.suffix.removeprefix("."))

    def split_using(self, path: str) -> Split | None:
        """The split a medium belongs to since a sample with it was added."""
        return self._split_of.get(f"medium {path}")

    def add(self, split: Split, sample: OmniSample) -> None:
        """Put a sample into a split.

        Raises:
            DataError: its id is taken, its media were not written here, or something of it is
                already in another split, or held out of this one.
        """
        if split not in SPLITS:
            raise DataError(f"split {split!r}; need {', '.join(SPLITS)}")
        if sample.id in self._ids:
            raise DataError(
                f"{self.facts.name}: two samples have the id {sample.id!r}. Number them"
            )
        missing = sorted(set(sample.media_paths) - self._media)
        if missing:
            raise DataError(
                f"sample {sample.id!r}: {missing[0]} was not written here. Add media "
                "with .image(), .audio(), .video() or .copy(), and give the path they return"
            )
        self._require_apart(split, sample)
        self._ids.add(sample.id)
        self._manifests[split].write(line_of(sample))
        self.facts.count(split, sample)
        self._tell_progress()
        examples = self._examples.setdefault(sample.task, [])
        # The lowest hashes: a choice that looks random and needs no second pass.
        heapq.heappush(examples, (-unit_hash(sample.id, self.facts.seed), sample.id, sample))
        if len(examples) > _EXAMPLES_PER_TASK:
            heapq.heappop(examples)

    def close(self, card: DataCard) -> None:
        """Write card and contact sheet, and put the folder in its place.

        Raises:
            DataError: nothing was added to training or test.
        """
        if not self.facts.samples["train"] and not self.facts.samples["test"]:
            raise DataError(f"{self.facts.name}: no samples were added to training or test")
        self._close_manifests()
        self._path("dataset.json").write_text(json.dumps(self.facts.row(), indent=1) + "\n")
        write_card(self._path("card.md"), card, self.facts)
        draw_contact_sheet(self._shown(), self._building).save(
            self._path("contact_sheet.png"), optimize=True
        )
        _logger.info("%s: %s samples", self.facts.name, f"{len(self._ids):,}")
        replaced = self.folder.with_name(self.folder.name + ".old")
        shutil.rmtree(replaced, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(replaced)
        self._building.rename(self.folder)
        shutil.rmtree(replaced, ignore_errors=True)

    def _require_apart(self, split: Split, sample: OmniSample) -> None:
        keys = [f"medium {path}" for path in sample.media_paths]
        keys += [f"sample {_content(sample)}"]
        keys += [
            f"{trait} {sample.traits[trait]}"
            for trait in self.facts.disjoint
            if trait in sample.traits
        ]
        for key in keys:
            if self._split_of.get(key, split) != split:
                raise DataError(
                    f"sample {sample.id!r} for {split}: {key[:120]} is already in "
                    f"{self._split_of[key]}. Splits share nothing: choose the split by it"
                )
        for trait, values in self.facts.held_out.items():
            if split == "train" and sample.traits.get(trait) in values:
                raise DataError(
                    f"sample {sample.id!r}: {trait} {sample.traits[trait]!r} is held out of "
                    "training. Put it into validation or test"
                )
        self._split_of.update(dict.fromkeys(keys, split))

    def _shown(self) -> list[OmniSample]:
        """Examples of every task, 30 in all where there are enough and few enough tasks."""
        num_each = max(2, _NUM_EXAMPLES // len(self._examples))
        found = [sorted(self._examples[task])[::-1][:num_each] for task in sorted(self._examples)]
        return [sample for examples in found for *_, sample in examples]

    def _keep(self, kind: str, data: bytes, ending: str) -> str:
        path = f"{kind}/{hashlib.sha256(data).hexdigest()[:20]}.{ending}"
        if path not in self._media:
            self._media.add(path)
            self._path(kind).mkdir(exist_ok=True)
            self._path(path).write_bytes(data)
            self.facts.media_files[kind] += 1
            self.facts.media_bytes[kind] += len(data)
        return path

    def _tell_progress(self) -> None:
        if time.monotonic() - self._told_at >= _TOLD_EVERY_S:
            self._told_at = time.monotonic()
            _logger.info("%s: %s samples so far", self.facts.name, f"{len(self._ids):,}")

    def _path(self, name: str) -> Path:
        return self._building / name

    def _close_manifests(self) -> None:
        for stream in self._manifests.values():
            stream.close()


class _told:
    """Names the medium in what is raised about it."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if isinstance(error, MediaError):
            raise DataError(f"{self._key}: {error}") from error


def _content(sample: OmniSample) -> str:
    """What makes two samples the same: their words and their media."""
    words = [(turn.role, turn.text) for turn in sample.conversations]
    return hashlib.sha256(repr((words, sample.media_paths)).encode()).hexdigest()
