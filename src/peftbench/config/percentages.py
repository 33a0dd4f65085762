"""Settings that are a percentage of something, or a plain number."""

from __future__ import annotations

import math


def percentage_or_number(text: str) -> tuple[float, bool]:
    """Return the number that a text holds, and whether `%` follows it. The number is nan if the text is neither."""
    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    return math.nan if rest else value, bool(percent)
