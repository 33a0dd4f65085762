"""Packs rows for a page: a column for each name, with equal texts stored once, as JSON that is safe within HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from peftbench.text import Destination, clean_tree

DIGITS: Final = 6
"""Significant digits of numbers on a page."""
_ESCAPES: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
"""Characters with which markup would begin -> the same character in JSON."""


def embedded(data: object) -> str:
    """Return clean data as JSON that ends no element of HTML, and that every reader of JavaScript accepts."""
    text = json.dumps(clean_tree(data, Destination.EXPORT), allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text


def packed(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return rows as columns: numbers as a list; texts as `words`, each once, and `places` among them.

    All rows must have the names of the first one.
    """
    names = list(rows[0]) if rows else []
    return {"count": len(rows), "columns": {name: _column([row[name] for row in rows]) for name in names}}


def _column(values: Sequence[Any]) -> object:
    if not all(isinstance(value, str) for value in values):
        return [rounded(value) for value in values]
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return {"words": list(places), "places": [places[value] for value in values]}


def rounded(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a number with `DIGITS` significant digits, which is short as text; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, float):
        return value
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 2**53 else short
