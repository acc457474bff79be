"""Builders of the sets mini learns from: one module a set, each with its `build`."""

from importlib import import_module
from pathlib import Path

from unimoe.data.leaks import find_leaks
from unimoe.errors import DataError
from unimoe.parts import cache_directory

SETS = (
    "easy_vqa",
    "naming",
    "scenes",
    "ocr",
    "video",
    "photos",
    "speech",
    "vocabulary",
    "read_aloud",
    "sounds",
    "text",
    "prose",
    "spoken",
    "combined",
    "drawing_tasks",
    "core_prose",
)
"""Modules that build a set of their own name, in the order they are built."""

_NEEDS_A_MODEL = {"core_prose"}
"""Their modules stand in `recipes`: nothing in `data` may import a model."""


def set_folder(name: str) -> Path:
    """Where a set of mini lies once it is built."""
    return cache_directory() / "data" / "mini" / name


def require_no_leaks() -> int:
    """Prove that the splits of all sets built so far share nothing; how many sets these are.

    Raises:
        DataError: something leaked.
    """
    folders = [set_folder(name) for name in SETS if set_folder(name).is_dir()]
    if leaks := find_leaks(folders):
        raise DataError(f"{len(leaks)} leaks between splits. The first: {leaks[0]}")
    return len(folders)


def build_set(name: str, *, seed: int = 0, scale: float = 1.0) -> Path:
    """Build a set into its folder; its parts are fetched if they are not there yet.

    Args:
        name: one of `SETS`.
        seed: the same one gives the same bytes.
        scale: share of the samples, for a trial; 1 is the whole set.

    Raises:
        DataError: no such set, or a scale that is none.
        PartsError: a part cannot be fetched.
    """
    if name not in SETS:
        raise DataError(f"no data set {name!r}; there are {', '.join(SETS)}")
    if not 0 < scale <= 1:
        raise DataError(f"scale is {scale}; need more than 0, at most 1")
    folder = set_folder(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    package = "unimoe.recipes" if name in _NEEDS_A_MODEL else __name__
    import_module(f"{package}.{name}").build(folder, seed=seed, scale=scale)
    return folder
