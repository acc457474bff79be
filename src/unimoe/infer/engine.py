"""Prompt in, tokens out: one prefill, then one token of every row a step.

In:  an `OmniBatch` of prompts, left-padded, and `SamplingOptions` for each row.
Out: a `Generation`, which yields a `Step` at a time and knows what it has cost so far.
All state lives in the `Generation`: closed or forgotten, nothing of it is left anywhere.
Axes: rows = prompts of the batch, live = rows that have not ended.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from unimoe.errors import RequestError
from unimoe.infer.expert_use import ANSWER, ExpertUseByGroup, token_groups
from unimoe.infer.sampling import Sampler, SamplingOptions, check_number, choose_tokens
from unimoe.infer.usage import FinishReason, RoutingTally, Usage
from unimoe.model.omni import OmniModel, OmniOutput
from unimoe.nn.cache import KVCache
from unimoe.tokens.batch import OmniBatch
from unimoe.tokens.sequence import count_tokens


class Step(NamedTuple):
    """One token of every live row, by row of the batch."""

    tokens: tuple[int | None, ...]
    """None: the row had ended before.  A row's last token is the one that ended it."""
    finish_reasons: tuple[FinishReason | None, ...]
    """None: the row goes on, or had ended before."""


@dataclasses.dataclass(slots=True)
class _Row:
    """Progress of one prompt."""

    index: int
    prompt_ids: Int[Tensor, " prompt"]
    sampler: Sampler
    num_new: int = 0
    finish_reason: FinishReason | None = None

    def take(self, token: int) -> None:
        options = self.sampler.options
        self.num_new += 1
        if token in options.stop_tokens:
            self.finish_reason = "stop"
        elif self.num_new == options.max_new_tokens:
            self.finish_reason = "length"


@dataclasses.dataclass(slots=True)
class _Decoding:
    """What the next token of every live row is computed from."""

    cache: KVCache
    attention_mask: Int[Tensor, "live room"] | None
    """Over prompt and answer to come; None: no row is padded."""
    positions: Int[Tensor, "3 live 1"]
    last_tokens: Int[Tensor, "live 1"]

    def keep_rows(self, rows: list[int]) -> None:
        kept = torch.tensor(rows, device=self.last_tokens.device)
        self.cache.keep_rows(kept)
        if self.attention_mask is not None:
            self.attention_mask = self.attention_mask[kept]
        self.positions = self.positions[:, kept]
        self.last_tokens = self.last_tokens[kept]


def generate(
    model: OmniModel,
    batch: OmniBatch,
    options: SamplingOptions | Sequence[SamplingOptions],
    *,
    top_p_routing: float | None = None,
    expert_use: ExpertUseByGroup | None = None,
) -> "Generation":
    """Start a generation; the work is done as steps are taken from it.

    Args:
        model: in evaluation mode.
        batch: prompts, one a row, padded on the left.
        options: of every row, or the same for all.  Stop strings are not looked at here, where
            there are only tokens.
        top_p_routing: routing threshold in place of the checkpoint's own: lower takes fewer
            experts.
        expert_use: counts which experts the tokens take; None: nobody wants to know.

    Raises:
        RequestError: a prompt that leaves no room for its answer, padding on the right, packed
            rows, or a routing threshold for a dense model.
    """
    num_rows = len(batch.input_ids)
    each = [options] * num_rows if isinstance(options, SamplingOptions) else list(options)
    if len(each) != num_rows:
        raise RequestError(f"{len(each)} sampling options for {num_rows} prompts; give one each")
    _check_routing(model, top_p_routing)
    return Generation(model, batch, each, top_p_routing, expert_use)


class Generation(Iterator[Step]):
    """A running generation: iterate for its steps, `close` to give it up.  See `generate`."""

    def __init__(
        self,
        model: OmniModel,
        batch: OmniBatch,
        options: list[SamplingOptions],
        top_p_routing: float | None,
        expert_use: ExpertUseByGroup | None = None,
    ) -> None:
        prompts = _prompts(batch)
        for row, (prompt, wanted) in enumerate(zip(prompts, options, strict=True)):
            _check_room(row, len(prompt), wanted.max_new_tokens, model.config.core.max_positions)
        self._model = model
        self._top_p_routing = top_p_routing
        self._expert_use = expert_use
        self._batch: OmniBatch | None = dataclasses.replace(batch, labels=None)
        core = model.config.core
        self._rows = [
            _Row(index, prompt, Sampler(wanted, prompt.to(model.device), core.vocab_size))
            for index, (prompt, wanted) in enumerate(zip(prompts, options, strict=True))
        ]
        self._live = list(self._rows)
        self._tally = (
            None if core.moe is None else RoutingTally(len(prompts), core.moe.router, model.device)
        )
        self._decoding: _Decoding | None = None
        self._prefill_seconds = self._decode_seconds = 0.0

    def __next__(self) -> Step:
        if not self._live:
            raise StopIteration
        is_first = self._decoding is None
        start = perf_counter()
        with torch.inference_mode():
            logits = self._next_logits()
            step = self._take(choose_tokens([row.sampler for row in self._live], logits))
        seconds = perf_counter() - start  # complete: reading the tokens waited for the device
        if is_first:
            self._prefill_seconds = seconds
        else:
            self._decode_seconds += seconds
        return step

    def close(self, reason: FinishReason = "cancelled") -> None:
        """Give up: live rows end for that reason, all memory is let go."""
        for row in self._live:
            row.finish_reason = reason
        self._live = []
        self._batch = self._decoding = None

    def tokens(self) -> list[list[int]]:
        """Run to the end; the tokens of every row from here on."""
        rows: list[list[int]] = [[] for _ in self._rows]
        for step in self:
            for row, token in zip(rows, step.tokens, strict=True):
                if token is not None:
                    row.append(token)
        return rows

    def usage(self, row: int = 0) -> Usage:
        """What one row has cost up to now; the seconds are those of the whole batch."""
        state = self._rows[row]
        use = None if self._tally is None else self._tally.expert_use(row)
        seed = state.sampler.options.seed
        assert seed is not None
        return Usage(
            prompt_tokens=count_tokens(state.prompt_ids, self._model.config.special_tokens),
            new_tokens=state.num_new,
            experts_per_token=None if use is None else use.experts_per_token,
            null_share=None if use is None else use.null_share,
            prefill_seconds=self._prefill_seconds,
            decode_seconds=self._decode_seconds,
            finish_reason=state.finish_reason,
            seed=seed,
        )

    def _next_logits(self) -> Float[Tensor, "live vocab"]:
        is_first = self._decoding is None
        output = self._prefill() if self._decoding is None else self._decode(self._decoding)
        if self._tally is not None:
            counts = [len(row.prompt_ids) if is_first else 1 for row in self._live]
            self._tally.add(output.routing, [row.index for row in self._live], counts)
        return output.logits[:, -1]

    def _prefill(self) -> OmniOutput:
        """Encoders and all prompts at once."""
        assert self._batch is not None
        batch = self._batch.to(self._model.device)
        num_rows, length = batch.input_ids.shape
        room = length + max(row.sampler.options.max_new_tokens for row in self._rows)
        cache = KVCache(self._model.config.core.num_layers, max_length=room)
        output: OmniOutput = self._model(
            **batch.model_inputs(), cache=cache, logits_rows=1, top_p_routing=self._top_p_routing
        )
        padded = batch.attention_mask
        self._decoding = _Decoding(
            cache=cache,
            attention_mask=None
            if bool(padded.all())
            else F.pad(padded, (0, room - length), value=1),
            positions=(length + output.rope_deltas).expand(3, num_rows, 1).clone(),
            last_tokens=torch.empty_like(batch.input_ids[:, :1]),
        )
        if self._expert_use is not None:
            special = self._model.config.special_tokens
            self._expert_use.add(output.routing, token_groups(batch.input_ids, padded, special))
        self._batch = None
        return output

    def _decode(self, decoding: _Decoding) -> OmniOutput:
        """One token of every live row."""
        mask = decoding.attention_mask
        output: OmniOutput = self._model(
            decoding.last_tokens,
            attention_mask=None if mask is None else mask[:, : decoding.cache.length + 1],
            position_ids=decoding.positions,
            cache=decoding.cache,
            logits_rows=1,
            top_p_routing=self._top_p_routing,
        )
        if self._expert_use is not None:
            answers = torch.full_like(decoding.last_tokens, ANSWER)
            self._expert_use.add(output.routing, answers)
        decoding.positions = decoding.positions + 1
        return output

    def _take(self, chosen: list[int]) -> Step:
        """Note the chosen tokens, and go on with the rows that have not ended."""
        assert self._decoding is not None
        tokens: list[int | None] = [None] * len(self._rows)
        for row, token in zip(self._live, chosen, strict=True):
            row.take(token)
            tokens[row.index] = token
        reasons = tuple(
            None if token is None else row.finish_reason
            for row, token in zip(self._rows, tokens, strict=True)
        )
        self._decoding.last_tokens.copy_(torch.tensor(chosen).unsqueeze(1))
        self._drop_ended()
        return Step(tuple(tokens), reasons)

    def _drop_ended(self) -> None:
        going_on = [place for place, row in enumerate(self._live) if row.finish_reason is None]
        if len(going_on) == len(self._live):
            return
        self._live = [self._live[place] for place in going_on]
        if not self._live:
            self.close()
        elif self._decoding is not None:
            self._decoding.keep_rows(going_on)


def _prompts(batch: OmniBatch) -> list[Int[Tensor, " prompt"]]:
    """The unpadded ids of every row."""
    mask = batch.attention_mask
    if int(mask.max()) > 1:
        raise RequestError("packed rows cannot be continued; give one prompt a row")
    if not bool(mask[:, -1].all()):
        raise RequestError("prompts are padded on the right; generation needs padding on the left")
    return [ids[real > 0] for ids, real in zip(batch.input_ids, mask, strict=True)]


def _check_room(row: int, num_prompt: int, num_new: int, most: int) -> None:
    if num_prompt + num_new <= most:
        return
    where = f"prompt {row + 1} has" if row else "the prompt has"
    left = most - num_prompt
    remedy = f"ask for at most {left} new tokens" if left > 0 else "shorten the conversation"
    raise RequestError(
        f"{where} {num_prompt} tokens, and max_new_tokens={num_new} makes {num_prompt + num_new}; "
        f"this model takes {most}: {remedy}"
    )


def _check_routing(model: OmniModel, top_p_routing: float | None) -> None:
    if top_p_routing is None:
        return
    if model.config.core.moe is None:
        raise RequestError(
            f"top_p_routing={top_p_routing} has no effect: this model is dense; leave it out"
        )
    check_number("top_p_routing", top_p_routing, above=0.0, high=1.0)
