"""Data file -> rows, each with its place in the file, so that an error can point at it."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from peftbench.errors import UserError
from peftbench.libraries import quiet, reason

Place = str
"""`line 3`, or `row 3` where a file has no lines."""

_BETWEEN = re.compile(r"[\s,]*")


def read_rows(path: Path) -> Iterator[tuple[Place, Any]]:
    """Yield what each row of a file holds, with its place; a row can be anything, it is not checked.

    Text formats are read by the standard library: it reads lazily and exactly, where `datasets` would convert the
    whole file first and guess types (a text `NA` becomes nothing, a text `2010` a number).

    Raises:
        UserError: the file cannot be read; says at which line.
    """
    try:
        yield from READERS[path.suffix.removeprefix(".")](path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _json_lines(path: Path) -> Iterator[tuple[Place, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if text := _decoded(path, line, number).strip():
                yield f"line {number}", _parsed(path, text, number)


def _json_array(path: Path) -> Iterator[tuple[Place, Any]]:
    text = _decoded(path, path.read_bytes())
    if not text.lstrip().startswith("["):
        yield from _json_lines(path)  # lines of JSON are often called .json
        return
    _parsed(path, text)  # the whole of it is valid; what follows only finds the lines
    decode = json.JSONDecoder().raw_decode
    end, counted, line = text.index("[") + 1, 0, 1
    while text[start := _next(text, end)] != "]":
        line += text.count("\n", counted, start)
        value, end = decode(text, start)
        counted = start
        yield f"line {line}", value


def _next(text: str, at: int) -> int:
    """Return where the next element of an array begins, or its closing bracket stands."""
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


def _csv(path: Path) -> Iterator[tuple[Place, Any]]:
    reader = csv.DictReader(io.StringIO(_decoded(path, path.read_bytes()), newline=""), strict=True)
    try:
        for row in reader:
            yield f"line {reader.line_num}", row
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num + 1}: no valid CSV: {error}") from None


def _parquet(path: Path) -> Iterator[tuple[Place, Any]]:
    from glob import escape

    import datasets

    try:
        with quiet("datasets"):
            # Streamed: nothing is copied into a cache.
            rows = datasets.load_dataset("parquet", data_files=escape(str(path)), split="train", streaming=True)
            yield from ((f"row {number}", row) for number, row in enumerate(rows, start=1))
    except Exception as error:  # a damaged file fails in whatever layer meets it first
        raise UserError(f"{path} is no parquet file that can be read: {reason(error)}") from error


READERS: Final[Mapping[str, Callable[[Path], Iterator[tuple[Place, Any]]]]] = MappingProxyType(
    {"jsonl": _json_lines, "json": _json_array, "csv": _csv, "parquet": _parquet}
)
"""Reader of each format, by the ending of a file's name."""


def _decoded(path: Path, data: bytes, line: int = 1) -> str:
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        number = line + data.count(b"\n", 0, error.start)
        raise UserError(f"{path}, line {number}: no valid UTF-8") from None


def _parsed(path: Path, text: str, line: int = 1) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {line + error.lineno - 1}: no valid JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}, line {line}: no valid JSON: {error}") from None
