"""Data parallel training: several processes, one run.

In:  what torchrun puts into the environment.  Out: `Workers`, which the loop asks for sums.
Every process draws the same rows and reads its own share of them; gradients are added up before
they are applied, so all take the same step, the one a single process would take. What one process
has no gradient for, another may: all of them join every sum, with zeros, and none waits for ever.
Axes: numbers = of all learned parameters in a row.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unimoe.errors import TrainingError

_TIMEOUT = datetime.timedelta(hours=6)
"""Others wait as long while the first one prepares data or takes measurements."""


class Workers:
    """The processes of a run, seen from one of them; alone by default."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank = rank
        self.world = world

    @property
    def is_first(self) -> bool:
        """Whether this one writes."""
        return self.rank == 0

    def sums(self, *values: float) -> list[float]:
        """Each value added up over all processes."""
        if self.world == 1:
            return list(values)
        together = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(together)
        return [float(value) for value in together]

    def gathered(self, value: Any) -> list[Any]:
        """A JSON value of every process, in their order."""
        if self.world == 1:
            return [value]
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        dist.all_gather(sizes, torch.tensor([len(text)]))
        longest = int(torch.cat(sizes).max())
        texts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.world)]
        dist.all_gather(texts, nn.functional.pad(text, (0, longest - len(text))))
        return [
            json.loads(bytes(text[: int(size)].tolist()))
            for text, size in zip(texts, sizes, strict=True)
        ]

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """The sum of all processes' gradients for each; None where none has any."""
        if self.world == 1:
            return
        has_any = torch.tensor([float(p.grad is not None) for p in parameters])
        dist.all_reduce(has_any)
        numbers = torch.cat([_gradient(parameter).flatten().float() for parameter in parameters])
        dist.all_reduce(numbers)
        parts = torch.split(numbers, [parameter.numel() for parameter in parameters])
        for parameter, part, count in zip(parameters, parts, has_any.tolist(), strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype) if count else None

    def require_equal(self, tensors: dict[str, Tensor], what: str) -> None:
        """Refuse processes that hold different values.

        Raises:
            TrainingError: they do.
        """
        if self.world == 1:
            return
        digest = hashlib.sha256()
        for name, tensor in sorted(tensors.items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)
        if len(set(self.gathered(digest.hexdigest()))) > 1:
            raise TrainingError(
                f"the processes of this run hold different {what}; give all the same files, recipe "
                "and options"
            )

    @contextlib.contextmanager
    def first_one_first(self) -> Iterator[None]:
        """Let the first process do something alone, then all others, which find it done."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            dist.barrier()


ALONE = Workers()


@contextlib.contextmanager
def joined_workers() -> Iterator[Workers]:
    """The processes that torchrun started, or this one alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ALONE
        return
    dist.init_process_group("gloo", timeout=_TIMEOUT)
    try:
        yield Workers(dist.get_rank(), world)
    finally:
        dist.destroy_process_group()


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
