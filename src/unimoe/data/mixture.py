"""An endless mixture of data sets by shares of tokens, exact to shard and to resume.

In:  tokens of every sample of every source, shares of all tokens.  Out: `Draw` after `Draw`.
The next sample comes from the source that lags most behind its share. A source is shuffled anew for
every pass over it; with several ranks each takes every world-th sample of that one order, so that
together they see every sample exactly once a pass.
Nothing is read and nothing copied: it works on lengths and numbers alone, and a shuffled order is a
formula, not a list. All of it follows from the seed and a few integers, `state_dict()`.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from unimoe.errors import ConfigError, DataError

_logger = logging.getLogger(__name__)

_NUM_ROUNDS = 6
_MASK = (1 << 64) - 1


class Draw(NamedTuple):
    """A sample to be read."""

    source: str
    number: int
    """Of the sample in its source, from 0."""
    length: int
    """Its tokens."""


class _Place:
    """How far one source has been read by this rank."""

    def __init__(
        self, usable: Int64[np.ndarray, "usable"], lengths: Int64[np.ndarray, "samples"]
    ) -> None:
        self.usable = usable
        self.lengths = lengths
        self.drawn = 0
        self.tokens = 0


class Mixture(Iterator[Draw]):
    """Endless draws.

    Args:
        lengths: tokens of each sample, by source; 0 leaves a sample out (see `survey_samples`).
        shares: of all tokens, by source, in any unit: 2 and 1, or token budgets.
        seed: of all orders.
        rank: this process, of `world`; the tokens of a share are counted per rank.
        world: processes that share the work.

    Raises:
        ConfigError: shares name an unknown source or are not above 0; rank is not in the world.
        DataError: a source has no usable sample.
    """

    def __init__(
        self,
        lengths: Mapping[str, Sequence[int] | Int64[np.ndarray, "samples"]],
        shares: Mapping[str, float | int],
        *,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        _require_sources(lengths, shares)
        if not 0 <= rank < world:
            raise ConfigError(f"rank {rank} of {world}; need 0 to {world - 1}")
        total = sum(shares.values())
        self.shares = {name: share / total for name, share in shares.items()}
        self._seed, self._rank, self._world = seed, rank, world
        self._places = {name: _place(name, lengths[name]) for name in shares}
        self._keys: dict[str, tuple[int, list[int]]] = {}

    def __next__(self) -> Draw:
        name = min(self._places, key=lambda n: self._places[n].tokens / self.shares[n])
        place = self._places[name]
        # The order of all ranks is one; this one takes every world-th of it.
        epoch, position = divmod(place.drawn * self._world + self._rank, len(place.usable))
        number = int(place.usable[_shuffled(position, len(place.usable), self._key(name, epoch))])
        length = int(place.lengths[number])
        place.drawn += 1
        place.tokens += length
        return Draw(name, number, length)

    @property
    def longest(self) -> dict[str, int]:
        """Tokens of the longest usable sample, by source."""
        return {name: int(place.lengths.max()) for name, place in self._places.items()}

    @property
    def tokens(self) -> dict[str, int]:
        """Tokens drawn by this rank, by source."""
        return {name: place.tokens for name, place in self._places.items()}

    @property
    def epochs(self) -> dict[str, float]:
        """How often each source has been gone through, all ranks together at this one's pace."""
        return {n: p.drawn * self._world / len(p.usable) for n, p in self._places.items()}

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, as JSON."""
        return {
            **self._identity(),
            "drawn": {name: place.drawn for name, place in self._places.items()},
            "tokens": self.tokens,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the state was taken; shares may have changed since.

        Raises:
            DataError: it is of other sources, another seed, or another number of ranks.
        """
        for key, wanted in self._identity().items():
            if state.get(key) != wanted:
                raise DataError(
                    f"the saved state has {key} {state.get(key)}, this mixture {wanted}. Resume "
                    "with the data, the seed and the number of processes it was saved with"
                )
        for name, place in self._places.items():
            place.drawn, place.tokens = state["drawn"][name], state["tokens"][name]

    def _identity(self) -> dict[str, Any]:
        samples = {name: len(place.usable) for name, place in self._places.items()}
        return {"seed": self._seed, "rank": self._rank, "world": self._world, "samples": samples}

    def _key(self, name: str, epoch: int) -> list[int]:
        """Round keys of the order of one pass; the last ones are kept."""
        if self._keys.get(name, (-1, []))[0] != epoch:
            digest = hashlib.sha512(f"{self._seed}\n{name}\n{epoch}".encode()).digest()
            words = [int.from_bytes(digest[8 * i : 8 * i + 8]) for i in range(_NUM_ROUNDS)]
            self._keys[name] = epoch, words
        return self._keys[name][1]


def _shuffled(position: int, size: int, round_keys: Sequence[int]) -> int:
    """Where a position stands in the shuffled order: a permutation of range(size).

    A Feistel network permutes the next power of 4; what falls beyond the size goes round again.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    while True:
        left, right = position >> half, position & low
        for key in round_keys:
            left, right = right, left ^ (_mixed(right ^ key) & low)
        position = left << half | right
        if position < size:
            return position


def _mixed(word: int) -> int:
    """A 64-bit word whose every bit depends on every bit (the finaliser of SplitMix64)."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _MASK
    return word ^ word >> 31


def _place(name: str, given: Sequence[int] | Int64[np.ndarray, "samples"]) -> _Place:
    lengths = np.asarray(given, dtype=np.int64)
    usable = np.flatnonzero(lengths > 0)
    num_left_out = len(lengths) - len(usable)
    if num_left_out:
        _logger.warning("%s: %d of %d samples left out", name, num_left_out, len(lengths))
    if not len(usable):
        raise DataError(f"{name}: none of {len(lengths)} samples is usable. Build the set again")
    return _Place(usable, lengths)


def _require_sources(lengths: Mapping[str, Any], shares: Mapping[str, float | int]) -> None:
    unknown = sorted(set(shares) - set(lengths))
    if unknown or not shares:
        raise ConfigError(
            f"a mixture of {', '.join(unknown) or 'nothing'}; there are {', '.join(lengths)}"
        )
    for name, share in shares.items():
        if not share > 0:
            raise ConfigError(f"the share of {name} is {share}; need more than 0, or leave it out")
