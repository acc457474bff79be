"""The commit a run was made by, read from the `.git` beside the package; no program is started."""

from pathlib import Path

import unimoe


def current_commit() -> str | None:
    """Of the checkout the package is imported from; None: an installed package."""
    for folder in Path(unimoe.__file__).resolve().parents:
        git = folder / ".git"
        if (git / "HEAD").is_file():
            return _commit_of(git)
    return None


def _commit_of(git: Path) -> str | None:
    head = (git / "HEAD").read_text("utf-8").strip()
    name = head.removeprefix("ref: ")
    if name == head:
        return head
    if (git / name).is_file():
        return (git / name).read_text("utf-8").strip()
    packed = git / "packed-refs"
    lines = packed.read_text("utf-8").splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {name}")), None)
