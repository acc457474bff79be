"""A jinja sandbox for the chat templates of foreign checkpoints: no escape, no endless work.

In:  template source and variables.  Out: the rendered text.
Jinja's sandbox keeps a template from Python's insides; the filters and methods here are those chat
templates use; of these only `replace` and `join` multiply text. All that loops, calls, filters,
operators, literals and output touch is paid for from one budget, so that a template ends within
seconds, and within some hundred megabytes, whatever it says.
"""

import functools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from unimoe.errors import CheckpointError, RequestError

_BUDGET, _PASSES = 100_000_000, 600  # characters, and times to go over everything that is given
_STEP_COST, _ITEM_COST = 1_000, 200  # a chat of a hundred turns takes some thousands of steps
_MAX_SOURCE, _MAX_FACTOR, _MAX_EXPONENT, _MAX_INDENT = 200_000, 1_000_000, 64, 16
_FILTERS = (
    "abs capitalize count d default dictsort first float groupby int items join last length list "
    "lower map max min reject rejectattr replace reverse safe select selectattr sort string title "
    "trim unique upper"
)
# Filters and tests that look at no item, so that asking a long conversation for its length is free.
_INSTANT = (
    "count d default first last length boolean defined false iterable mapping none number sequence "
    "string true undefined"
)
_METHODS = (
    "capitalize copy count endswith find get index isalnum isalpha isdecimal isdigit islower "
    "isnumeric isspace isupper items join keys lower lstrip partition removeprefix removesuffix "
    "replace rfind rpartition rsplit rstrip split splitlines startswith strip title upper values"
)


class _BudgetError(Exception):
    pass


class _RefusedError(Exception):
    pass


def render_template(source: str, variables: Mapping[str, object]) -> str:
    """Text of a chat template, with the conventions of the templates on the hub.

    Args:
        source: jinja source; `raise_exception(message)`, `tojson` and `{% generation %}` exist.
        variables: what it may read.

    Raises:
        RequestError: the template refuses the conversation through `raise_exception`.
        CheckpointError: it is no valid template, reaches for what it may not, or never ends.
    """
    if len(source) > _MAX_SOURCE:
        raise CheckpointError(
            f"the chat template has {len(source)} characters; {_MAX_SOURCE} at most"
        )
    environment = _ChatEnvironment(_BUDGET + _PASSES * _cost([dict(variables)]))
    try:
        program = environment.from_string(_TollCollector().visit(environment.parse(source)))
        return program.render(dict(variables))
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


class _ChatEnvironment(ImmutableSandboxedEnvironment):
    """One rendering: the sandbox, and the budget it spends."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, budget: int) -> None:
        extensions: list[type[Extension]] = [loopcontrols, _GenerationBlock]
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
        self._left = budget
        offered = {name: self.filters[name] for name in _FILTERS.split()} | {"tojson": _to_json}
        self.filters = {name: self._paid(name, filter_) for name, filter_ in offered.items()}
        self.filters |= {_TOLL: self._toll, _LOOP_TOLL: self._loop_toll}
        self.tests = {name: self._paid(name, test) for name, test in self.tests.items()}
        kept = {name: self.globals[name] for name in ("range", "dict", "namespace")}
        self.globals = kept | {"raise_exception": _refuse}

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Jinja's own rule, and of Python's values only the methods above."""
        is_offered = attr in _METHODS.split() or type(obj).__module__ != "builtins"
        return is_offered and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """No `str.format`, which jinja would let through in a form of its own."""

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A call, paid for by what it takes and gives."""
        function = functools.partial(super().call, context, obj, *args, **kwargs)
        values = [getattr(obj, "__self__", None), *args, *kwargs.values()]
        return self._pay(getattr(obj, "__name__", ""), values, function)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """An operator, paid for by what it makes; numbers grow slowly enough to be free."""
        if operator == "+":
            self._spend(_cost([left, right], self._left))
        elif operator == "*" and (isinstance(left, Sized) or isinstance(right, Sized)):
            self._spend(
                math.prod(len(v) if isinstance(v, Sized) else abs(v) for v in (left, right))
            )
        elif not all(isinstance(v, int | float) and abs(v) <= _MAX_FACTOR for v in (left, right)):
            raise jinja2.TemplateRuntimeError(f"{operator} is offered for numbers up to a million")
        elif operator == "**" and right > _MAX_EXPONENT:
            raise jinja2.TemplateRuntimeError(f"** is offered up to the power of {_MAX_EXPONENT}")
        return super().call_binop(context, operator, left, right)

    def _spend(self, cost: int) -> None:
        self._left -= cost
        if self._left < 0:
            raise _BudgetError

    def _pay(self, name: str, values: list[Any], function: Any) -> Any:
        if name in _INSTANT.split():
            self._spend(_STEP_COST)
            return function()
        self._spend(_cost(values, self._left))
        if name in ("replace", "join"):  # may make as much as the product of what they take
            self._spend(math.prod(len(v) or 1 for v in values if isinstance(v, Sized)))
        result = function()
        result = list(result) if isinstance(result, Iterator) else result
        self._spend(_cost([result], self._left))
        return result

    def _paid(self, name: str, function: Any) -> Any:
        @functools.wraps(function)  # keeps jinja's mark of what it passes first
        def paid(*args: Any, **kwargs: Any) -> Any:
            values = [*args, *kwargs.values()]
            return self._pay(name, values, functools.partial(function, *args, **kwargs))

        return paid

    # With a context jinja cannot work it out once, when it compiles, and then for nothing.
    @jinja2.pass_context
    def _toll(self, _: object, value: Any) -> Any:
        self._spend(_cost([value], self._left))
        return value

    def _loop_toll(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self._spend(_STEP_COST)
            yield item


_TOLL, _LOOP_TOLL = "toll", "loop toll"


class _TollCollector(NodeTransformer):
    """Puts a filter that takes a toll around loops, output, comparisons, slices and literals."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        """The node, its own children done."""
        super().generic_visit(node, *args, **kwargs)
        if isinstance(node, nodes.For):
            node.iter = _filtered(node.iter, _LOOP_TOLL)
        elif isinstance(node, nodes.Output | nodes.Concat):
            node.nodes = [_filtered(child) for child in node.nodes]
        elif isinstance(node, nodes.Compare | nodes.Operand):
            node.expr = _filtered(node.expr)
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
            node.node = _filtered(node.node)
        # `for a, b in` is no literal.
        is_literal = isinstance(node, nodes.List | nodes.Dict | nodes.Tuple)
        return _filtered(node) if is_literal and getattr(node, "ctx", "load") == "load" else node


def _filtered(node: Any, name: str = _TOLL) -> nodes.Filter:
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


def _cost(values: Iterable[Any], most: int | float = math.inf) -> int:
    """Of a step over these values, those nested in them included; counted up to `most`."""
    stack, cost = list(values), _STEP_COST
    while stack and cost <= most:
        item = stack.pop()
        cost += _ITEM_COST
        if isinstance(item, str | range):
            cost += len(item)
        elif isinstance(item, list | tuple):
            stack += item
        elif isinstance(item, dict):
            stack += [*item, *item.values()]
    return cost
