"""Numbers for people, with three significant digits and decimal prefixes."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from peftbench.claims.intervals import Interval

PREFIXES: Final = ("", "k", "M", "G", "T", "P")


def significant(value: float, digits: int = 3) -> str:
    """Return a finite number with `digits` significant digits and without exponent: 1230, 12.3, 0.00123."""
    return "0" if value == 0 else format(Decimal(f"{value:.{digits - 1}e}"), "f")


def percentage(share: float) -> str:
    """Return a share in percent, without the sign: 0.0234 as `2.3`."""
    return significant(100 * share, 2)


def between(found: Interval) -> str:
    """Return a number with its interval: `1.32 [1.10, 1.58]`. An unknown end is left blank."""
    if found.low == found.high:
        return significant(found.value)
    low = "" if math.isinf(found.low) or found.low == 0 else significant(found.low)
    high = "" if math.isinf(found.high) else significant(found.high)
    return f"{significant(found.value)} [{low}, {high}]" if low or high else significant(found.value)


def scaled(value: float) -> str:
    """Return a count with a decimal prefix: 295k, 1.79M."""
    step = 0
    while abs(value) >= 999.5 and step < len(PREFIXES) - 1:  # noqa: PLR2004 - rounds to 1000
        value, step = value / 1000, step + 1
    return (f"{value:g}" if step == 0 and value == int(value) else significant(value)) + PREFIXES[step]


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: 1 case, 24 cases."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def milliseconds(seconds: float) -> str:
    """Return a time in milliseconds, without the unit."""
    return significant(seconds * 1e3)


def megabytes(size: float) -> str:
    """Return a size in units of 10^6 bytes, without the unit."""
    return significant(size / 1e6)
