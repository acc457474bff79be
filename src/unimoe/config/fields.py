"""Configurations to plain dicts and back, strictly; fields set by name."""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from unimoe.config.claims import require
from unimoe.errors import ConfigError

Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """Plain nested dict of a config, ready for JSON: tuples become lists."""
    return typing.cast("dict[str, Any]", json.loads(json.dumps(dataclasses.asdict(config))))


def from_dict(config_type: type[Config], values: Mapping[str, Any], path: str = "") -> Config:
    """A config from a plain dict, strictly.

    Raises:
        ConfigError: an unknown field (the nearest known one is named), a missing one, a value of
            the wrong type or out of range; the message holds the dotted path of the field.
    """
    hints = typing.get_type_hints(config_type)
    for name in values:
        if name not in hints:
            raise ConfigError(_unknown_field(_join(path, name), name, list(hints)))
    converted = {
        name: _convert(hints[name], value, _join(path, name)) for name, value in values.items()
    }
    try:
        return config_type(**converted)
    except TypeError as error:
        missing = [
            field.name
            for field in dataclasses.fields(config_type)  # type: ignore[arg-type]
            if field.name not in values
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        ]
        where = path or config_type.__name__
        raise ConfigError(f"{where} lacks {', '.join(missing)}; every one must be given") from error


def overridden(config: Config, assignments: Sequence[str], *, root: str) -> Config:
    """A config with fields replaced by `root.field=value` words, checked as when it was made.

    A value is JSON (`3e-4`, `[0.9, 0.99]`, `true`, `null`), anything else a string; a name of a
    group of values (`train.mixture.speech=2`) is a field too.

    Raises:
        ConfigError: no assignment, another root, an unknown field or an impossible value.
    """
    values = to_dict(config)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        path = name.strip().split(".")
        if not equals or len(path) < 2:
            raise ConfigError(f"{assignment!r} sets nothing; write as in {root}.field=value")
        require(path[0] == root, f"{name}: no such group; did you mean {root!r}?")
        group: Any = values
        for depth, key in enumerate(path[1:-1], start=1):
            where = ".".join(path[: depth + 1])
            if key not in group:
                raise ConfigError(_unknown_field(where, key, list(group)))
            group = group[key]
            require(isinstance(group, dict), f"{where} is a single value; it has no fields")
        try:
            group[path[-1]] = json.loads(text)
        except ValueError:
            group[path[-1]] = text
    return from_dict(type(config), values, root)


def _unknown_field(where: str, name: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"{where}: no such field{hint}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _convert(hint: Any, value: Any, where: str) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        if value is None and len(options) < len(typing.get_args(hint)):
            return None
        return _convert(options[0], value, where)
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        require(value in choices, f"{where} is {value!r}; need one of {', '.join(choices)}")
        return value
    if typing.get_origin(hint) is tuple:
        members = typing.get_args(hint)
        require(isinstance(value, list | tuple), f"{where} is {value!r}; need several values")
        if members[-1] is Ellipsis:
            members = members[:1] * len(value)
        require(
            len(value) == len(members),
            f"{where} is {value!r}; need {len(members)} values",
        )
        return tuple(_convert(m, v, where) for m, v in zip(members, value, strict=True))
    if typing.get_origin(hint) is Mapping:
        require(isinstance(value, dict), f"{where} is {value!r}; need names with values")
        member = typing.get_args(hint)[1]
        return {name: _convert(member, v, _join(where, name)) for name, v in value.items()}
    if dataclasses.is_dataclass(hint):
        require(isinstance(value, Mapping), f"{where} is {value!r}; need a group of fields")
        return from_dict(typing.cast("type[Any]", hint), value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    require(
        isinstance(value, hint) and not (hint is int and isinstance(value, bool)),
        f"{where} is {value!r}; need {hint.__name__}",
    )
    return value
