"""Data file -> rows, each with its place in the file, so that an error can point at it."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final, cast

from peftbench.data.columns import ClassNames, parquet_names, parquet_rows
from peftbench.data.jsonrows import Place, decoded_rows, parsed
from peftbench.errors import UserError

COMPRESSED: Final = ".gz"
"""May follow each ending; the file is read as it is unpacked."""
Reader = Callable[[Path, BinaryIO], Iterator[tuple[Place, object]]]


def read_rows(path: Path) -> Iterator[tuple[Place, object]]:
    """Yield what each row of a file holds, with its place; a row can be anything, it is not checked.

    Text formats are read by the standard library: it reads lazily and exactly, where `datasets` would convert the
    whole file first and guess types (a text `NA` becomes nothing, a text `2010` a number).

    Raises:
        UserError: the file cannot be read; says at which line.
    """
    try:
        with _opened(path) as file:
            yield from READERS[_ending(path)](path, file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} cannot be unpacked, it is cut short or no gzip file: {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def class_names(path: Path) -> ClassNames:
    """Return the names of classes that a file carries, in the order of their ids, by field; only parquet has them.

    Raises:
        UserError: the file cannot be read.
    """
    if _ending(path) != "parquet":
        return {}
    try:
        with _opened(path) as file:
            return parquet_names(path, file)
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _ending(path: Path) -> str:
    return Path(path.name.removesuffix(COMPRESSED)).suffix.removeprefix(".")


def _opened(path: Path) -> BinaryIO:
    if not path.name.endswith(COMPRESSED):
        return path.open("rb")
    return cast("BinaryIO", gzip.open(path, "rb"))  # what it returns reads and seeks as any file


def _json_lines(path: Path, file: BinaryIO) -> Iterator[tuple[Place, object]]:
    for number, line in enumerate(file, start=1):
        if text := _decoded(path, line, number).strip():
            yield f"line {number}", parsed(path, text, number)


def _json(path: Path, file: BinaryIO) -> Iterator[tuple[Place, object]]:
    return decoded_rows(path, _decoded(path, file.read()))


def _csv(path: Path, file: BinaryIO) -> Iterator[tuple[Place, object]]:
    text = _decoded(path, file.read())
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        while (row := _next_of(reader, longest=len(text))) is not None:
            yield f"line {reader.line_num}", row
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num + 1}: no valid CSV: {error}") from None


def _next_of(reader: csv.DictReader[str], *, longest: int) -> object:
    """Return the next row, None at the end. The limit of a cell's length is the whole process's: it is put back."""
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, longest))
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(before)


READERS: Final[Mapping[str, Reader]] = MappingProxyType(
    {"jsonl": _json_lines, "json": _json, "csv": _csv, "parquet": parquet_rows}
)
"""Reader of each format, by the ending of a file's name."""
ENDINGS: Final = (*READERS, *(ending + COMPRESSED for ending in READERS))
"""What the name of a data file can end with, without the dot before it."""


def _decoded(path: Path, data: bytes, line: int = 1) -> str:
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        number = line + data.count(b"\n", 0, error.start)
        raise UserError(f"{path}, line {number}: no valid UTF-8") from None
