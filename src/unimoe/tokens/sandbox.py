"""A jinja sandbox for the chat templates of foreign checkpoints: no escape, no endless work.

In:  template source and variables.  Out: the rendered text.
Jinja's sandbox keeps a template from Python's insides; the budget here bounds what it may do with
what it does see. Loops, calls, filters, operators, literals and output pay for the items and
characters they touch, so a template ends within seconds, and within some hundred megabytes,
whatever it says.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from unimoe.errors import CheckpointError, RequestError

_BUDGET = 100_000_000
"""Characters and items a rendering may touch, besides this:"""
_PASSES = 300
"""Times it may go over everything it is given."""
_STEP_COST = 1_000
"""What a step costs besides; a chat of a hundred turns takes some thousands of them."""
_ITEM_COST = 200
"""What an item of a list costs besides its characters: counting it is a step of ours."""
_MAX_INDENT = 16
# Each makes a string as long as a number says, which no budget can see beforehand.
_PADDING_METHODS = frozenset(
    {"center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map", "to_bytes"}
)
_PADDING_FILTERS = frozenset({"center", "format", "indent", "wordwrap"})
_MULTIPLYING = frozenset({"replace", "join"})
"""Filters and methods whose result may be as long as the product of what they take."""


def render_template(source: str, variables: Mapping[str, object]) -> str:
    """Text of a chat template, with the conventions of the templates on the hub.

    Args:
        source: jinja source; `raise_exception(message)`, `tojson` and `{% generation %}` exist.
        variables: what it may read.

    Raises:
        RequestError: the template refuses the conversation through `raise_exception`.
        CheckpointError: it is no valid template, reaches for what it may not, or never ends.
    """
    environment = _ChatEnvironment(_BUDGET + _PASSES * _size(dict(variables)))
    try:
        return environment.compile_bounded(source).render(dict(variables))
    except _RefusedError as error:
        raise RequestError(f"the chat template refuses the conversation: {error}") from error
    except _BudgetError as error:
        raise CheckpointError(
            "the chat template does more work than any conversation needs; it is damaged or hostile"
        ) from error
    # A template is a program: besides jinja's own errors it can raise whatever its values do.
    except Exception as error:
        raise CheckpointError(
            f"the chat template fails: {type(error).__name__}: {error}"
        ) from error


class _BudgetError(Exception):
    pass


class _RefusedError(Exception):
    pass


class _ChatEnvironment(ImmutableSandboxedEnvironment):
    """One rendering: the sandbox, and the budget it spends."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, budget: int) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationBlock]
        )
        self._left = budget
        self.tests = {name: self._paid(name, test) for name, test in self.tests.items()}
        self.filters = {
            name: self._paid(name, function)
            for name, function in self.filters.items()
            if name not in _PADDING_FILTERS
        } | {
            "tojson": self._paid("tojson", _to_json),
            _PAID: self._paid(_PAID, lambda value: value),
            _PAID_LOOP: self._paid_loop,
        }
        del self.globals["lipsum"]  # as many words as a number says
        self.globals |= {"raise_exception": _refuse, "range": self._range}

    def compile_bounded(self, source: str) -> jinja2.Template:
        """The template, paying for what jinja does not pass through this class."""
        return self.from_string(_TollCollector().visit(self.parse(source)))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Jinja's own rule, and no methods that pad."""
        return attr not in _PADDING_METHODS and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """No `str.format` either, which jinja would let through in a form of its own."""

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A call, paid for by the volume of its arguments."""
        values = [getattr(obj, "__self__", None), *args, *kwargs.values()]
        self._spend(_volume(getattr(obj, "__name__", ""), values))
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """An operator, paid for by the size of what it makes."""
        if operator == "*":
            self._spend(_product_size(left, right))
        elif operator == "**":
            self._spend(_power_size(left, right))
        elif operator == "%" and isinstance(left, str):
            raise jinja2.TemplateRuntimeError("% on text is not offered; use ~ or replace")
        else:
            self._spend(_size(left) + _size(right))
        return super().call_binop(context, operator, left, right)

    def _spend(self, volume: int) -> None:
        self._left -= _STEP_COST + volume
        if self._left < 0:
            raise _BudgetError

    def _paid(self, name: str, function: Any) -> Any:
        @functools.wraps(function)  # keeps jinja's mark of what it passes first
        def paid(*args: Any, **kwargs: Any) -> Any:
            self._spend(_volume(name, [*args, *kwargs.values()]))
            return function(*args, **kwargs)

        return paid

    def _paid_loop(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self._spend(0)
            yield item

    def _range(self, *bounds: int) -> range:
        numbers = range(*bounds)
        self._spend(len(numbers))
        return numbers


_PAID = "paid"
_PAID_LOOP = "paid loop"


class _TollCollector(NodeTransformer):
    """Puts a paid filter around loops, output, comparisons and literals."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        """Every round of a loop pays."""
        self.generic_visit(node)
        node.iter = _filtered(node.iter, _PAID_LOOP)
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        """Printing pays; the template's own text is as long as its file."""
        self.generic_visit(node)
        node.nodes = [
            child if isinstance(child, nodes.TemplateData) else _filtered(child, _PAID)
            for child in node.nodes
        ]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        """So does joining text by ~."""
        self.generic_visit(node)
        node.nodes = [_filtered(child, _PAID) for child in node.nodes]
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        """And comparing."""
        self.generic_visit(node)
        node.expr = _filtered(node.expr, _PAID)
        for operand in node.ops:
            operand.expr = _filtered(operand.expr, _PAID)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        """A list of lists pays for all inside, so that nesting cannot double for free."""
        self.generic_visit(node)
        return _filtered(node, _PAID)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        """Like a list."""
        self.generic_visit(node)
        return _filtered(node, _PAID)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        """Like a list; `for a, b in …` is no literal."""
        self.generic_visit(node)
        return _filtered(node, _PAID) if node.ctx == "load" else node


def _filtered(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None)


class _GenerationBlock(Extension):
    """`{% generation %}…{% endgeneration %}`, by which some templates mark answers: its body."""

    tags = {"generation"}  # noqa: RUF012 - jinja reads a class attribute

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The body alone."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: object) -> NoReturn:
    raise _RefusedError(str(message))


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    if indent is not None and not 0 <= indent <= _MAX_INDENT:
        raise jinja2.TemplateRuntimeError(f"tojson(indent={indent}); need 0 to {_MAX_INDENT}")
    # As on the hub: jinja's own filter would escape < and > for web pages.
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _size(value: Any) -> int:
    """Characters and items inside, those of nested values included."""
    total, stack = 0, [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str | range):
            total += len(item)
        elif isinstance(item, list | tuple):
            stack += item
        elif isinstance(item, Mapping):
            stack += [*item.keys(), *item.values()]
        total += _ITEM_COST if stack else 1
    return total + len(stack) * _ITEM_COST


def _volume(name: str, values: Iterable[Any]) -> int:
    """Bound on what a filter or method of this name reads and makes of the values."""
    sizes = map(_size, values)
    return math.prod(sizes) if name in _MULTIPLYING else sum(sizes)


def _product_size(left: Any, right: Any) -> int:
    """Of `3 * 4` or `"ab" * 4`."""
    if isinstance(left, int | float) and isinstance(right, int | float):
        return _num_bits(left) + _num_bits(right)
    factors = [abs(v) if isinstance(v, int) else _size(v) for v in (left, right)]
    return math.prod(factors)


def _power_size(base: Any, exponent: Any) -> int:
    return _num_bits(base) * abs(exponent) if isinstance(exponent, int) else 1


def _num_bits(value: int | float) -> int:
    return value.bit_length() if isinstance(value, int) else 64
