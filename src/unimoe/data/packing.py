"""Which samples share a row, so that few tokens of it are padding.

In:  lengths of samples, the length of a row.  Out: rows as numbers of samples, or of `Draw`s.
A row starts with the sample that has waited longest and takes, of the others that wait, those that
together fill it best. No sample is cut, lost or repeated. With 128 waiting, samples of up to half a
row fill it to 99 % and more, lengths spread evenly up to a whole row to 96 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unimoe.data.mixture import Draw, Mixture
from unimoe.errors import DataError


class PackedRows(Iterator[list[Draw]]):
    """Endless rows of a mixture.

    Args:
        mixture: gives the samples; nobody else may draw from it.
        row_length: tokens of a row.
        num_waiting: samples a row can choose among.

    Raises:
        DataError: a sample is longer than a row.
    """

    def __init__(self, mixture: Mixture, row_length: int, num_waiting: int = 128) -> None:
        for name, longest in mixture.longest.items():
            if longest > row_length:
                raise DataError(
                    f"{name}: a sample of {longest} tokens does not fit a row of {row_length}. "
                    "Take longer rows, or leave it out by a length of 0"
                )
        self.row_length = row_length
        self._mixture = mixture
        self._num_waiting = num_waiting
        self._waiting: list[Draw] = []

    def __next__(self) -> list[Draw]:
        while len(self._waiting) < self._num_waiting:
            self._waiting.append(next(self._mixture))
        chosen = _row([draw.length for draw in self._waiting], self.row_length)
        row = [self._waiting[place] for place in chosen]
        for place in reversed(chosen):
            del self._waiting[place]
        return row

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, as JSON: the mixture, and who waits."""
        return {"mixture": self._mixture.state_dict(), "waiting": [list(d) for d in self._waiting]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the state was taken.

        Raises:
            DataError: as `Mixture.load_state_dict`.
        """
        self._mixture.load_state_dict(state["mixture"])
        self._waiting = [Draw(*entry) for entry in state["waiting"]]


def plan_rows(lengths: Sequence[int], row_length: int) -> list[list[int]]:
    """Rows of the samples with these lengths, the longest first.

    >>> plan_rows([2, 5, 3, 1], 6)
    [[1, 3], [2, 0]]

    Raises:
        DataError: a sample is longer than a row.
    """
    if max(lengths, default=0) > row_length:
        raise DataError(
            f"a sample of {max(lengths)} tokens does not fit a row of {row_length}; "
            "drop it, cut it yourself, or take longer rows"
        )
    waiting = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    rows = []
    while waiting:
        chosen = _row([lengths[number] for number in waiting], row_length)
        rows.append([waiting[place] for place in chosen])
        for place in reversed(chosen):
            del waiting[place]
    return rows


def _row(lengths: Sequence[int], row_length: int) -> list[int]:
    """Places of the first sample and of those that fill the rest of its row best."""
    rest = lengths[1:]
    return [0, *(place + 1 for place in _fullest(rest, row_length - lengths[0]))]


def _fullest(lengths: Sequence[int], room: int) -> list[int]:
    """Places whose lengths sum to as much as the room allows; of equal ones the earlier."""
    # Bit n of sums[i]: some of the first i lengths sum to n.
    within_room = (1 << room + 1) - 1
    sums = [1]
    for length in lengths:
        sums.append((sums[-1] | sums[-1] << length) & within_room)
    total = sums[-1].bit_length() - 1
    chosen = []
    for place in reversed(range(len(lengths))):
        if not sums[place] >> total & 1:
            chosen.append(place)
            total -= lengths[place]
    return chosen[::-1]
