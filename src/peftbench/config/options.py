"""How an option is given and read: on the command line, in the ini file, in a table, always as text."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from peftbench.errors import unknown

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Option:
    """How a setting is given and read."""

    help: str
    parse: Callable[[str], Any]
    metavar: str
    flag: bool
    identity: bool
    """Whether it changes a number, so that records taken under another value are not comparable."""
    studies: bool
    """Whether it changes numbers of studies (trainings, deployments) only."""


def option(
    default: T,
    help: str,  # noqa: A002 - argparse's own word
    *,
    parse: Callable[[str], Any] = str,
    metavar: str = "NAME",
    flag: bool = False,
    identity: bool = False,
    studies: bool = False,
) -> T:
    """Return a dataclass field of this default that is an option; the default's type is the field's."""
    made = Option(help=help, parse=parse, metavar=metavar, flag=flag, identity=identity, studies=studies)
    return field(default=default, metadata={"option": made})


def comma_separated(text: str) -> tuple[str, ...]:
    """Split at commas that stand outside parentheses."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return tuple(part.strip() for part in parts if part.strip())


def at_least(minimum: float, kind: Callable[[str], T]) -> Callable[[str], T]:
    """Read a number with `kind` (int, float) that is not below `minimum`."""

    def parse(text: str) -> T:
        value = kind(text)
        if not value >= minimum:  # type: ignore[operator] # int and float are both compared with a number
            raise ValueError(f"must be at least {minimum}")
        return value

    return parse


def each(parse: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """Read a comma-separated list, each part by `parse`."""
    return lambda text: tuple(map(parse, comma_separated(text)))


def above_zero(text: str) -> float:
    """Read a finite number above zero."""
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError("must be above 0")
    return value


def one_of(*allowed: str) -> Callable[[str], str]:
    """Read one of the allowed words."""

    def parse(text: str) -> str:
        if text not in allowed:
            raise unknown("value", text, allowed)
        return text

    return parse


def fraction(text: str) -> tuple[int, int]:
    """Read `3/16`: a part, and how many there are."""
    number, slash, total = text.partition("/")
    part, parts = (int(number), int(total)) if slash else (0, 0)
    if not 1 <= part <= parts:
        raise ValueError("must be like 3/16, from 1/16 to 16/16")
    return part, parts


def boolean(text: str) -> bool:
    """Read true or false."""
    return one_of("true", "false")(text.lower()) == "true"


def flag(help: str, *, identity: bool = False, studies: bool = False) -> bool:  # noqa: A002 - argparse's own word
    """Return a dataclass field, False by default, that is an option without a value."""
    return option(default=False, help=help, parse=boolean, flag=True, identity=identity, studies=studies)
