"""A run in a process of its own: `python -m tests.train.killed_run FOLDER`; prints each step."""

import sys
from pathlib import Path

import torch

from tests.train.made_samples import SOURCES, plan, tiny_model
from unimoe.train.loop import train


def run(folder: Path, *, resume: bool, on_record=lambda record: None):
    """The same run, whoever starts it."""
    return train(
        tiny_model(),
        SOURCES,
        plan(),
        folder,
        validation={"pictures": SOURCES["pictures"]},
        resume=resume,
        on_record=on_record,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)

    def tell(record):
        sys.stdout.write(f"{record['step']}\n")
        sys.stdout.flush()

    run(Path(sys.argv[1]), resume=True, on_record=tell)
