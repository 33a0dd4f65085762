"""Functions that read the value of a setting from text. Each raises ValueError with what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeVar

from peftbench.errors import unknown

T = TypeVar("T")

LARGEST: Final = 2**63 - 1
"""Largest whole number that torch, JSON readers and the interpreter accept."""
MOST: Final = 1_000_000
"""Largest batch, sequence or number of requests. More do not fit the memory of any machine."""
MOST_THREADS: Final = 4096
"""Most CPU threads. Operating systems refuse more, some of them by a crash."""
MOST_TRAININGS: Final = 10_000
"""Most seeds, and most tasks that are served. Each of them is a case."""
MOST_HZ: Final = 100.0
"""Most samples of NVML in a second."""
LONGEST_S: Final = 1e9
"""Longest time that a timer can wait, in seconds (about 30 years)."""


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


def words(text: str) -> str:
    """Read a text that is not blank."""
    if not text.strip():
        raise ValueError("names nothing")
    return text.strip()


def whole(minimum: int, maximum: int = LARGEST) -> Callable[[str], int]:
    """Read a whole number from `minimum` to `maximum`."""

    def parse(text: str) -> int:
        value = _number(text, int, "a whole number")
        if value < minimum:
            raise ValueError(f"must be at least {minimum}")
        if value > maximum:
            raise ValueError(f"must be at most {maximum}")
        return value

    return parse


def seconds(text: str) -> float:
    """Read a time in seconds, 0 or more."""
    value = _number(text, float, "a number")
    if not value >= 0:
        raise ValueError("must be at least 0")
    return value


def not_negative(text: str) -> float:
    """Read a finite number, 0 or more."""
    value = _number(text, float, "a number")
    if not 0 <= value < math.inf:
        raise ValueError("must be at least 0")
    return value


def waiting(text: str) -> float:
    """Read a timeout in seconds, above 0 and at most `LONGEST_S`."""
    value = above_zero(text)
    if value > LONGEST_S:
        raise ValueError(f"must be at most {LONGEST_S:.0f}")
    return value


def each(parse: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """Read a comma-separated list, each part by `parse`."""
    return lambda text: tuple(map(parse, comma_separated(text)))


def above_zero(text: str) -> float:
    """Read a finite number above zero."""
    value = _number(text, float, "a number")
    if not 0 < value < math.inf:
        raise ValueError("must be above 0")
    return value


def sampling_rate(text: str) -> float:
    """Read a number of samples a second, above 0 and at most `MOST_HZ`."""
    value = above_zero(text)
    if value > MOST_HZ:
        raise ValueError(f"must be at most {MOST_HZ:g}, since NVML renews its readings no more often")
    return value


def one_of(*allowed: str) -> Callable[[str], str]:
    """Read one of the allowed words."""

    def parse(text: str) -> str:
        if text not in allowed:
            raise unknown("value", text, allowed)
        return text

    return parse


def fraction(text: str) -> tuple[int, int]:
    """Read `3/16` as the number of a part and the number of parts."""
    number, slash, total = text.partition("/")
    try:
        part, parts = (int(number), int(total)) if slash else (0, 0)
    except ValueError:
        part, parts = 0, 0
    if not 1 <= part <= parts <= LARGEST:
        raise ValueError("must be like 3/16, from 1/16 to 16/16")
    return part, parts


def boolean(text: str) -> bool:
    """Read true or false."""
    return one_of("true", "false")(text.lower()) == "true"


def _number(text: str, kind: Callable[[str], T], what: str) -> T:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"must be {what}") from None
