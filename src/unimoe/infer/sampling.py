"""From logits to a token: greedy or drawn, with the usual filters, and where to stop.

In:  logits float [vocab] of one row of a batch, `SamplingOptions` of that row's request.
Out: one token id; for text, what may be shown before a stop string.
A row draws one uniform number a token from its own generator, on the CPU, and walks the cumulative
distribution: the same seed gives the same tokens on any device, alone or in any batch.
Axes: vocab = the width of the head, kept = the tokens a filter leaves.
"""

import math
import secrets
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unimoe.errors import CheckpointError, RequestError

_SEED_BITS = 53
"""So that a seed survives JSON, whose numbers are doubles."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingOptions:
    """How one request turns logits into tokens.

    The filters act in the order top-k, top-p, min-p, each on what the one before left.

    Raises:
        RequestError: a value is out of range, or has no effect beside the others.
    """

    max_new_tokens: int = 512
    """Tokens at most; a request whose prompt leaves less room than this is refused."""
    temperature: float = 0.0
    """0 takes the likeliest token (greedy); above 0 tokens are drawn."""
    top_k: int | None = None
    """Draw among this many likeliest tokens; None: all."""
    top_p: float = 1.0
    """Draw among the fewest tokens whose probability reaches this."""
    min_p: float = 0.0
    """Draw among tokens at least this probable relative to the likeliest."""
    repetition_penalty: float = 1.0
    """Above 1, logits of tokens of the prompt and the answer are divided (if negative: multiplied)
    by it."""
    seed: int | None = None
    """None: a new one each time; the usage report tells which."""
    stop: tuple[str, ...] = ()
    """Strings that end the answer; they are not part of it."""
    stop_tokens: tuple[int, ...] = ()
    """Token ids that end the answer, beside the checkpoint's own end of turn."""

    def __post_init__(self) -> None:
        check_number("max_new_tokens", self.max_new_tokens, low=1.0, whole=True)
        check_number("temperature", self.temperature, low=0.0, high=100.0)
        if self.top_k is not None:
            check_number("top_k", self.top_k, low=1.0, whole=True)
        check_number("top_p", self.top_p, above=0.0, high=1.0)
        check_number("min_p", self.min_p, low=0.0, high=1.0)
        check_number("repetition_penalty", self.repetition_penalty, above=0.0, high=100.0)
        if self.seed is not None:
            check_number("seed", self.seed, low=0.0, high=2.0**_SEED_BITS - 1, whole=True)
        if isinstance(self.stop, str) or not all(isinstance(s, str) and s for s in self.stop):
            raise RequestError(f"stop is {self.stop!r}; need a list of non-empty strings")
        for token in self.stop_tokens:
            check_number("stop_tokens", token, low=0.0, whole=True)
        self._refuse_filters_without_draw()

    def _refuse_filters_without_draw(self) -> None:
        if self.is_greedy:
            for name, idle in (("top_k", None), ("top_p", 1.0), ("min_p", 0.0)):
                if getattr(self, name) != idle:
                    raise RequestError(
                        f"{name}={getattr(self, name)} has no effect at temperature 0, which "
                        f"always takes the likeliest token; set a temperature, such as 0.7"
                    )

    @property
    def is_greedy(self) -> bool:
        """True when nothing is drawn."""
        return self.temperature == 0

    def seeded(self) -> "SamplingOptions":
        """The same options with a seed that can be told and used again."""
        return self if self.seed is not None else replace(self, seed=secrets.randbits(_SEED_BITS))


def check_number(
    name: str,
    value: object,
    *,
    low: float = -math.inf,
    above: float = -math.inf,
    high: float = math.inf,
    whole: bool = False,
) -> None:
    """Refuse an option that is no number, or out of range.

    Raises:
        RequestError: names the option, its value and the range.
    """
    kinds = int if whole else (int, float)
    if (
        isinstance(value, kinds)
        and not isinstance(value, bool)
        and value >= low
        and value > above
        and value <= high
    ):
        return
    kind = "a whole number" if whole else "a number"
    bounds = [f"above {above:g}"] if above > -math.inf else [f"from {low:g}"]
    bounds += [f"to {high:g}"] if high < math.inf else ["up"]
    raise RequestError(f"{name} is {value!r}; need {kind} {' '.join(bounds)}")


class Candidates(NamedTuple):
    """What the filters left to draw among; probabilities need not add up to one."""

    token_ids: Int[Tensor, "kept"]
    probabilities: Float[Tensor, "kept"]


def candidates(logits: Float[Tensor, "vocab"], options: SamplingOptions) -> Candidates:
    """Temperature, top-k, top-p and min-p, in this order.

    At least the likeliest token is left. Ids come likeliest first where top-k or top-p needed them
    sorted, else in the order of the vocabulary.
    """
    scores = logits.float() / options.temperature
    if options.top_k is not None:
        scores, ids = scores.topk(min(options.top_k, scores.numel()))
    elif options.top_p < 1:
        scores, ids = scores.sort(descending=True, stable=True)
    else:
        ids = torch.arange(scores.numel(), device=scores.device)
    probabilities = scores.softmax(-1)
    if options.top_p < 1:
        reached_before = probabilities.cumsum(-1) - probabilities
        probabilities = probabilities.where(reached_before < options.top_p, 0.0)
    if options.min_p > 0:
        floor = options.min_p * probabilities.max()
        probabilities = probabilities.where(probabilities >= floor, 0.0)
    return Candidates(ids, probabilities)


class Sampler:
    """The choice of one row's tokens; it depends on nothing but that row.

    Args:
        options: of the row's request; a missing seed is chosen here.
        prompt_ids: what the repetition penalty already counts as said.
        vocab_size: width of the logits.
    """

    def __init__(
        self, options: SamplingOptions, prompt_ids: Int[Tensor, "prompt"], vocab_size: int
    ) -> None:
        self.options = options.seeded()
        assert self.options.seed is not None
        self._generator = torch.Generator().manual_seed(self.options.seed)
        self._said: Tensor | None = None  # bool [vocab]
        if options.repetition_penalty != 1:
            self._said = torch.zeros(vocab_size, dtype=torch.bool, device=prompt_ids.device)
            self._said[prompt_ids] = True

    @property
    def takes_likeliest(self) -> bool:
        """True when the choice is the bare arg-max."""
        return self.options.is_greedy and self._said is None

    def choose(self, logits: Float[Tensor, "vocab"]) -> int:
        """The row's next token."""
        if self._said is not None:
            penalty = self.options.repetition_penalty
            penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
            logits = torch.where(self._said, penalised, logits)
        if self.options.is_greedy:
            token = int(logits.argmax(-1))
        else:
            token = self._draw(candidates(logits, self.options))
        if self._said is not None:
            self._said[token] = True
        return token

    def _draw(self, among: Candidates) -> int:
        # fp64: over 150k tokens a float32 sum is off by more than the rarest probabilities
        cumulative = among.probabilities.double().cumsum(-1)
        share = torch.rand((), generator=self._generator, dtype=torch.float64)
        target = share.to(cumulative.device) * cumulative[-1]
        index = torch.searchsorted(cumulative, target, right=True)
        return int(among.token_ids[index])


def choose_tokens(samplers: list[Sampler], logits: Float[Tensor, "rows vocab"]) -> list[int]:
    """The next token of every row.

    Raises:
        CheckpointError: logits that are no numbers, which would decode as noise.
    """
    best = logits.max(-1)  # a NaN anywhere in a row comes out as its maximum
    if not all(map(math.isfinite, best.values.tolist())):
        raise CheckpointError(
            f"the model returned NaN or infinite logits in {logits.dtype}; "
            f"try dtype='float32', and check the weights"
        )
    if all(sampler.takes_likeliest for sampler in samplers):
        return [int(token) for token in best.indices.tolist()]
    return [sampler.choose(row) for sampler, row in zip(samplers, logits, strict=True)]


class StopText:
    """Lets text through up to the first stop string, holding back what may become one.

    >>> text = StopText(("END",))
    >>> text.push("one E"), text.push("ND two"), text.found
    ('one ', '', True)
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """The part of all text so far that can be shown now and was not yet."""
        if self.found:
            return ""
        self._held += text
        found = [(start + len(s), start) for s in self._stop if (start := self._held.find(s)) >= 0]
        self.found = bool(found)
        # the one that ends first: what a reader letter by letter would have met
        end = min(found)[1] if found else len(self._held) - self._num_undecided()
        return self._release(end)

    def flush(self) -> str:
        """What was held back, once it is known that nothing follows."""
        return "" if self.found else self._release(len(self._held))

    def _num_undecided(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max(map(len, self._stop), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(s.startswith(self._held[-length:]) for s in self._stop):
                return length
        return 0

    def _release(self, end: int) -> str:
        shown, self._held = self._held[:end], self._held[end:]
        return shown
