"""Parquet -> rows, and the class names that a data set of `datasets` carries: ids are read through them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from peftbench.errors import UserError
from peftbench.libraries import reason

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

ClassNames = Mapping[str, tuple[str, ...]]
"""Names of the classes in the order of their ids, by field."""
FEATURES: Final = b"huggingface"
"""Where `datasets` keeps its features in the metadata of a parquet file, as JSON."""
BATCH: Final = 1024
"""Rows that are read at a time."""


def names_in(features: Mapping[str, object]) -> ClassNames:
    """Return the names of each field of classes, or of lists of them, in features of `datasets` as JSON types."""
    found = {field: _names(feature) for field, feature in features.items()}
    return {field: names for field, names in found.items() if names}


def named(row: object, names: ClassNames) -> object:
    """Return a row with names in the place of ids of classes; an id that has no name, as -1, stays."""
    if not isinstance(row, Mapping) or not names:
        return row
    return {field: _named(value, names[field]) if field in names else value for field, value in row.items()}


def parquet_names(path: Path, file: BinaryIO) -> ClassNames:
    """Return the class names that a parquet file carries; raises UserError where it cannot be read."""
    return _names_of(_parquet(path, file))


def parquet_rows(path: Path, file: BinaryIO) -> Iterator[tuple[str, object]]:
    """Yield each row of a parquet file with its place (`row 3`), names in the place of ids.

    Raises:
        UserError: it cannot be read.
    """
    table = _parquet(path, file)
    names = _names_of(table)
    number = 0
    for rows in _batches(path, table):
        for row in rows:
            number += 1
            yield f"row {number}", named(row, names)


def _parquet(path: Path, file: BinaryIO) -> ParquetFile:
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(file)
    except Exception as error:  # a damaged file fails in whatever layer meets it first
        raise _unreadable(path, error) from error


def _batches(path: Path, table: ParquetFile) -> Iterator[list[Any]]:
    try:
        for batch in table.iter_batches(batch_size=BATCH, use_threads=False):
            yield batch.to_pylist()
    except Exception as error:  # as above
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is no parquet file that can be read: {reason(error)}")


def _names_of(table: ParquetFile) -> ClassNames:
    text = (table.schema_arrow.metadata or {}).get(FEATURES)
    try:
        features = json.loads(text)["info"]["features"] if text else {}
    except (ValueError, LookupError, TypeError, RecursionError):  # another program's, of the same key
        features = {}
    return names_in(features) if isinstance(features, Mapping) else {}


def _names(feature: object) -> tuple[str, ...]:
    if isinstance(feature, list) and len(feature) == 1:  # how old versions write a list
        return _names(feature[0])
    if not isinstance(feature, Mapping):
        return ()
    if feature.get("_type") == "ClassLabel":
        names = feature.get("names")
        return tuple(map(str, names)) if isinstance(names, list) else ()
    return _names(feature.get("feature"))


def _named(value: object, names: tuple[str, ...]) -> object:
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    return names[value] if 0 <= value < len(names) else value
