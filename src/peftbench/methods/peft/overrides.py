"""Overrides of a tuner's configuration, checked against the types of PEFT's own configuration class."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping
from typing import Any, Final, Literal

from peftbench.errors import UserError, unknown
from peftbench.records.ids import Scalar

RESERVED: Final = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "inference_mode",
        "modules_to_save",
        "peft_type",
        "peft_version",
        "revision",
        "task_type",
    }
)
"""Fields that follow from the task and the model."""


def checked(method: str, config_class: type, overrides: Mapping[str, Scalar]) -> dict[str, Any]:
    """Return the overrides as the configuration wants them; `a+b` becomes a list where it takes one.

    Raises:
        UserError: a field is unknown (names the nearest) or its value has the wrong type (names the right one).
    """
    fields = overridable(config_class) if overrides else {}  # resolving types takes time, and applying is timed
    settings: dict[str, Any] = {}
    for name, value in overrides.items():
        if name not in fields:
            raise unknown(f"option of {method}", name, fields)
        accepted = [converted for hint in fields[name] for converted in _converted(value, hint)]
        if not accepted:
            allowed = " or ".join(_described(hint) for hint in fields[name])
            raise UserError(f"{method}({name}={value}): {value!r} is not {allowed}")
        settings[name] = accepted[0]
    return settings


def overridable(config_class: type) -> dict[str, tuple[object, ...]]:
    """Return the fields that can be written as a scalar or as `a+b`, each with the types that it takes."""
    hints = typing.get_type_hints(config_class)
    fields = {
        field.name: tuple(hint for hint in _alternatives(hints[field.name]) if _described(hint))
        for field in dataclasses.fields(config_class)
        if field.name not in RESERVED
    }
    return {name: alternatives for name, alternatives in fields.items() if alternatives}


def _alternatives(hint: object) -> tuple[object, ...]:
    """Take unions apart; lists come first, so that `query` means the name and not a regular expression."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [member for argument in typing.get_args(hint) for member in _alternatives(argument)]
        return tuple(sorted(members, key=lambda member: not _is_list(member)))
    return (hint,)


def _is_list(hint: object) -> bool:
    return typing.get_origin(hint) is list


def _described(hint: object) -> str:
    """Return a type in a reader's words, or '' if no override can have it."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(str(argument) for argument in arguments)
    if _is_list(hint):
        return {(str,): "names joined by +", (int,): "whole numbers joined by +"}.get(arguments, "")
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return "one of " + ", ".join(str(member.value) for member in hint)
    names: dict[object, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return names.get(hint, "")


def _converted(value: Scalar, hint: object) -> list[Any]:
    """Return the value as `hint` wants it, in a list; an empty one if it cannot be."""
    if typing.get_origin(hint) is Literal:
        return [choice for choice in typing.get_args(hint) if choice == value and type(choice) is type(value)]
    if _is_list(hint):
        return _joined(str(value), typing.get_args(hint)[0])
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return [member for member in hint if member.value == value]
    if hint is float and type(value) is int:
        return [float(value)]
    return [value] if type(value) is hint else []


def _joined(text: str, item: type) -> list[Any]:
    parts = text.split("+")
    if item is int:
        return [[int(part) for part in parts]] if all(part.isdecimal() for part in parts) else []
    plain = all(part.replace(".", "").replace("_", "").isalnum() for part in parts)
    return [parts] if plain else []
