"""Overrides of a tuner's configuration, checked against the types of PEFT's own configuration class."""

from __future__ import annotations

import dataclasses
import enum
import re
import types
import typing
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal

from peftbench.errors import PeftbenchError, UnsupportedError, UserError, unknown
from peftbench.methods.base import Application
from peftbench.methods.peft.layers import Layers
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
_UNDECLARED: Final[Mapping[str, object]] = {"init_lora_weights": Literal["lora_ga"]}
"""Field -> values that PEFT takes though the field's type does not name them."""


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


@contextmanager
def without_effect(method: str, overrides: Mapping[str, object]) -> Iterator[None]:
    """Within the context PEFT makes a configuration: where it warns that it ignores something, overrides are refused.

    A time under the name of an override that does nothing would be a wrong one.

    Raises:
        UserError: PEFT ignores something, and there are overrides.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    messages = [" ".join(str(warning.message).split()) for warning in caught]
    ignored = next((message for message in messages if "ignored" in message), "")
    if overrides and ignored:
        given = ",".join(f"{name}={value}" for name, value in overrides.items())
        raise UserError(f"{method}({given}): PEFT says: {ignored}")


def overridable(config_class: type) -> dict[str, tuple[object, ...]]:
    """Return the fields that can be written as a scalar or as `a+b`, each with the types that it takes."""
    fields = {
        name: tuple(hint for hint in (*hints, _UNDECLARED.get(name, type(None))) if _described(hint))
        for name, hints in types_of(config_class).items()
        if name not in RESERVED
    }
    return {name: alternatives for name, alternatives in fields.items() if alternatives}


def types_of(config_class: type) -> dict[str, tuple[object, ...]]:
    """Return the fields of a configuration, each with the types that it takes."""
    hints = typing.get_type_hints(config_class)
    return {field.name: _alternatives(hints[field.name]) for field in dataclasses.fields(config_class)}


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
        return [value for choice in typing.get_args(hint) if _is_choice(value, choice)]
    if _is_list(hint):
        return _joined(str(value), typing.get_args(hint)[0])
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return [member for member in hint if member.value == value]
    if hint is float and type(value) is int:
        return [float(value)]
    return [value] if type(value) is hint else []


def _is_choice(value: Scalar, choice: object) -> bool:
    """Tell whether a value is a choice; `pissa_niter_[number of iters]` stands for such a name with a number in it."""
    if isinstance(value, str) and isinstance(choice, str) and "[" in choice:
        return re.fullmatch(r"\d+".join(map(re.escape, re.split(r"\[[^]]*\]", choice))), value) is not None
    return choice == value and type(choice) is type(value)


def _joined(text: str, item: type) -> list[Any]:
    parts = text.split("+")
    if item is int:
        return [[int(part) for part in parts]] if all(part.isdecimal() for part in parts) else []
    plain = all(part.replace(".", "").replace("_", "").isalnum() for part in parts)
    return [parts] if plain else []


def nothing_else(overrides: Mapping[str, Any]) -> str:
    """Return '': no override makes the method another one."""
    del overrides
    return ""


def as_peft_has_it(layers: Layers) -> Mapping[str, Any]:
    """Return no field: PEFT's own defaults do for every model."""
    del layers
    return {}


def culprit_of(application: Application) -> type[PeftbenchError]:
    """The defaults fit every model that PEFT supports, so what fails with overrides fails for them."""
    return UserError if application.overrides else UnsupportedError
