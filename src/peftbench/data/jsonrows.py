"""The text of a JSON file -> rows with their lines: an array, an object that holds one, or one value after another."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from peftbench.errors import UserError

Place = str
"""`line 3`, or `row 3` where a file has no lines."""
HOLDER: Final = "data"
"""The key under which an object holds the rows, as in SQuAD's files."""

_BLANK: Final = re.compile(r"\s*")
_BETWEEN: Final = re.compile(r"[\s,:]*")


def decoded_rows(path: Path, text: str) -> Iterator[tuple[Place, object]]:
    """Yield the elements of an array, those of an object's `data`, or values that follow each other.

    Raises:
        UserError: the text is no such JSON; says at which line.
    """
    start = _next(text, 0)
    if start == len(text):
        return
    if text[start] == "[":
        parsed(path, text)  # the whole of it is valid; what follows only finds the lines
        yield from _elements(text, start)
        return
    value, end = _first(path, text, start)
    if text[end:].strip():
        yield from _lines(path, text) if "\n" not in text[start:end] else _stream(path, text)
    elif isinstance(value, dict) and isinstance(value.get(HOLDER), list):
        yield from _elements(text, _place_of(text, start, HOLDER))
    else:
        yield f"line {_line(text, start)}", value


def parsed(path: Path, text: str, line: int = 1) -> Any:  # noqa: ANN401 - JSON
    """Return what a JSON text holds, which begins on `line` of the file; raises UserError with the line of a fault."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        _refuse(path, error, line)


def _refuse(path: Path, error: Exception, line: int = 1) -> NoReturn:
    if isinstance(error, json.JSONDecodeError):
        raise UserError(f"{path}, line {line + error.lineno - 1}: no valid JSON: {error.msg}") from None
    raise UserError(f"{path}, line {line}: no valid JSON: {error}") from None


def _lines(path: Path, text: str) -> Iterator[tuple[Place, object]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", parsed(path, line.strip(), number)


def _stream(path: Path, text: str) -> Iterator[tuple[Place, object]]:
    """Yield values that take several lines each."""
    start = _next(text, 0)
    while start < len(text):
        value, end = _first(path, text, start)
        yield f"line {_line(text, start)}", value
        start = _next(text, end)


def _first(path: Path, text: str, start: int) -> tuple[Any, int]:
    """Return the value that begins at a place, and where it ends."""
    try:
        return json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        _refuse(path, error)


def _elements(text: str, start: int) -> Iterator[tuple[Place, object]]:
    """Yield the elements of the valid array that begins at a place, with their lines."""
    decode = json.JSONDecoder().raw_decode
    counted, line, end = 0, 1, start + 1
    while text[place := _next(text, end, _BETWEEN)] != "]":
        line += text.count("\n", counted, place)
        value, end = decode(text, place)
        counted = place
        yield f"line {line}", value


def _place_of(text: str, start: int, key: str) -> int:
    """Return where the value of a key begins, of the valid object that begins at a place; of a key twice, the last."""
    decode, found, end = json.JSONDecoder().raw_decode, start, start + 1
    while text[place := _next(text, end, _BETWEEN)] != "}":
        name, end = decode(text, place)
        value = _next(text, end, _BETWEEN)
        if name == key:
            found = value
        _, end = decode(text, value)
    return found


def _next(text: str, at: int, between: re.Pattern[str] = _BLANK) -> int:
    """Return where the next value begins, or a closing bracket stands, after blanks, or after what is `between`."""
    found = between.match(text, at)
    return found.end() if found else at


def _line(text: str, at: int) -> int:
    return 1 + text.count("\n", 0, at)
