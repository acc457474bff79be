"""One of several processes of a run: `python -m tests.train.parallel_run FOLDER RANK PORT`."""

import os
import sys
from pathlib import Path

import torch

from tests.train.made_samples import SOURCES, plan, tiny_model
from unimoe.train.loop import train
from unimoe.train.parallel import Workers, joined_workers

WORLD = 2


def run(folder: Path, workers: Workers):
    """The same run for any number of processes: the balance is judged forward by forward."""
    model = tiny_model()
    validation = {"pictures": SOURCES["pictures"]}
    return train(model, SOURCES, plan(), folder, validation=validation, workers=workers)


def join(folder: Path, rank: int, port: int):
    """Run as one of several, told so as torchrun tells it."""
    told = {"RANK": rank, "WORLD_SIZE": WORLD, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told.items()})
    try:
        with joined_workers() as workers:
            return run(folder, workers)
    finally:
        for name in told:
            del os.environ[name]


if __name__ == "__main__":
    torch.set_num_threads(1)
    join(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
