"""Turns frozen dataclasses into JSON types and back. The types of a dataclass describe its format."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, reduce
from inspect import Parameter, signature
from operator import or_
from types import UnionType
from typing import Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from peftbench.errors import UserError

T = TypeVar("T")
Json = Any
"""Any value of a JSON text."""
Kind = Any
"""A type, including a generic one such as `Mapping[str, int]`."""
Decoder = Callable[[Json], Any]


MAX_TEXT: Final = 100_000
"""Longest text or name, in characters. Reports wrap and align texts, which takes minutes for many MB."""


def encode(value: object) -> Json:
    """Return a dataclass as JSON types. A field is left out if its value and its default are empty (None or "")."""
    if is_dataclass(value):
        pairs = ((name, getattr(value, name), optional) for name, optional in _fields(cast("Kind", type(value))))
        return {name: encode(item) for name, item, optional in pairs if not (optional and item in (None, ""))}
    if isinstance(value, Mapping):
        return {name: encode(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    return value


@cache
def _fields(kind: Kind) -> tuple[tuple[str, bool], ...]:
    return tuple((field.name, field.default in (None, "")) for field in fields(kind))


def decode(kind: type[T], data: object, where: str) -> T:
    """Build `kind`, a dataclass or a Struct of msgspec, from JSON types.

    Fields may be str, int, float (finite), `int | float`, bool, Any, Literal, `X | None`, Mapping[str, X],
    tuple[X, ...], and dataclasses and Structs of these. A field with a default may be missing; unknown fields are
    refused.

    Raises:
        UserError: the data have another form; begins with `where`, and names the field.
    """
    try:
        return cast("T", _decoder(cast("Kind", kind))(data))
    except RecursionError as error:
        raise UserError(f"{where}: is nested too deeply to be read") from error
    except _MismatchError as error:
        path = ".".join(reversed(error.path))
        raise UserError(f"{where}: {f'{path}: ' if path else ''}{error}") from error


class _MismatchError(Exception):
    """Data of another form. `path` holds the names of the fields around them, from the inside out."""

    def __init__(self, message: str, *path: str) -> None:
        super().__init__(message)
        self.path = list(path)


def _expected(what: str, data: object) -> _MismatchError:
    return _MismatchError(f"expected {what}, found {repr(data)[:40]}")


def _anything(data: Json) -> Json:
    if isinstance(data, str):
        _text(data)
    elif isinstance(data, Mapping):
        for name, item in data.items():
            _inside(_anything, item, _text(name))
    elif isinstance(data, list | tuple):
        for index, item in enumerate(data):
            _inside(_anything, item, str(index))
    return data


def _text(data: Json) -> str:
    if type(data) is not str:
        raise _expected("text", data)
    if len(data) > MAX_TEXT:
        raise _MismatchError(f"{data[:20]!r}... has {len(data)} characters, and {MAX_TEXT} are allowed")
    return data


def _number(data: Json) -> float:
    if type(data) not in (int, float):
        raise _expected("a finite number", data)
    try:
        finite = math.isfinite(data)
    except OverflowError:  # an int of hundreds of digits
        finite = False
    if not finite:
        raise _expected("a finite number", data)
    return cast("float", data)  # an int stays an int, so that a count above 2**53 is exact


def _whole(data: Json) -> int:
    if type(data) is not int:
        raise _expected("a whole number", data)
    _number(data)
    return data


def _truth(data: Json) -> bool:
    if type(data) is not bool:
        raise _expected("true or false", data)
    return data


_LEAVES: Final[Mapping[Kind, Decoder]] = {
    Any: _anything,
    float: _number,
    int | float: _number,
    str: _text,
    int: _whole,
    bool: _truth,
}


@cache
def _decoder(kind: Kind) -> Decoder:
    if kind in _LEAVES:
        return _LEAVES[kind]
    if is_dataclass(kind) or hasattr(kind, "__struct_fields__"):
        return _object(kind)
    origin: Kind = get_origin(kind)
    arguments = get_args(kind)
    if origin is Literal:
        return _literal(arguments)
    if origin in (Union, UnionType) and arguments[-1] is type(None):
        return _optional(_decoder(reduce(or_, arguments[:-1])))
    if origin is tuple and arguments[1:] == (...,):
        return _sequence(_decoder(arguments[0]))
    if origin is Mapping:
        return _mapping(_decoder(arguments[1]))
    raise TypeError(f"no JSON form for {kind}")


def _literal(allowed: tuple[str, ...]) -> Decoder:
    def read(data: Json) -> str:
        if not isinstance(data, str) or data not in allowed:
            raise _expected("one of " + ", ".join(allowed), data)
        return data

    return read


def _optional(inner: Decoder) -> Decoder:
    return lambda data: None if data is None else inner(data)


def _sequence(inner: Decoder) -> Decoder:
    def read(data: Json) -> tuple[object, ...]:
        if not isinstance(data, list | tuple):
            raise _expected("a list", data)
        return tuple([_inside(inner, item, str(index)) for index, item in enumerate(data)])

    return read


def _mapping(inner: Decoder) -> Decoder:
    def read(data: Json) -> dict[str, object]:
        if not isinstance(data, Mapping):
            raise _expected("an object", data)
        return {_text(name): _inside(inner, item, name) for name, item in data.items()}

    return read


def _object(kind: Kind) -> Decoder:
    """Read a class by the arguments of its constructor. Instances pass, so that parts may be read beforehand."""
    hints, parameters = get_type_hints(kind), signature(kind).parameters
    readers = {name: _decoder(hints[name]) for name in parameters}
    required = {name for name, parameter in parameters.items() if parameter.default is Parameter.empty}

    def read(data: Json) -> object:
        if isinstance(data, kind):
            return data
        if not isinstance(data, Mapping):
            raise _expected("an object", data)
        if missing := required - data.keys():
            raise _MismatchError("is missing", min(missing))
        if strange := data.keys() - readers.keys():
            raise _MismatchError(f"is not a field; there are: {', '.join(readers)}", str(min(strange))[:40])
        return kind(**{name: _inside(readers[name], item, name) for name, item in data.items()})

    return read


def _inside(inner: Decoder, item: Json, name: str) -> object:
    try:
        return inner(item)
    except _MismatchError as error:
        error.path.append(name)
        raise
