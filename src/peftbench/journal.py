"""The journal: each finished record is on the disk before the next case begins, so that a killed run loses none."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final, Self

from peftbench.errors import UserError
from peftbench.record import Record, record_from_json, record_to_json

SCHEMA: Final = "peftbench/journal/1"
DONE: Final = frozenset({"ok", "unsupported"})
"""Records of another status are measured again when a run is resumed."""


class Journal:
    """An append-only file: a header that says what the records were taken with, then a record a line."""

    def __init__(self, path: Path, header: Mapping[str, Any], *, resume: bool = False) -> None:
        """Open the journal, anew or where a killed run left it.

        Raises:
            UserError: under `resume`: there is no journal, it is of other settings, or it cannot be read.
        """
        self.path = path
        self.finished: Mapping[str, Record] = {}
        head = json.dumps({"schema": SCHEMA, **header}, sort_keys=True, default=str)
        if resume:
            self.finished = read(path, json.loads(head))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(head + "\n")
            file.writelines(_line(record) for record in self.finished.values())
            _flush(file)
        temporary.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def append(self, record: Record) -> None:
        """Write one record; when this returns it is on the disk."""
        self._file.write(_line(record))
        _flush(self._file)

    def close(self) -> None:
        """Close the file; the journal stays where it is."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: Path, header: Mapping[str, Any]) -> dict[str, Record]:
    """Return the finished records of a journal by id; a last line that was cut off is left out.

    Raises:
        UserError: no journal, not one of ours, other settings (says which), or a broken line before the last.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: the journal cannot be read ({error}); run without --peftbench-resume") from None
    if not lines:
        raise UserError(f"{path}: the journal is empty; run without --peftbench-resume")
    _compare_headers(path, _parse(path, 1, lines[0]), header)
    records: dict[str, Record] = {}
    for number, line in enumerate(lines[1:], start=2):
        try:
            record = record_from_json(_parse(path, number, line))
        except UserError as error:
            if number == len(lines):
                break
            raise UserError(f"{path}, line {number}: {error}; run without --peftbench-resume") from None
        if record.status in DONE:
            records[record.id] = record
    return records


def _compare_headers(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    if found.get("schema") != SCHEMA:
        raise UserError(f"{path}, line 1: not a journal of this version ({SCHEMA}); run without --peftbench-resume")
    ours, theirs = _flat(wanted), _flat(found)
    different = [
        f"{key} was {theirs.get(key, 'not set')}, is {ours.get(key, 'not set')}"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    ]
    if different:
        raise UserError(
            f"--peftbench-resume: {path} holds records of other settings ({'; '.join(different)}); "
            "give the same settings, or run without --peftbench-resume"
        )


def _flat(header: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in header.items():
        flat.update(value if isinstance(value, Mapping) else {key: value})
    return flat


def _parse(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        parsed = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {number}, column {error.colno}: {error.msg}") from None
    if not isinstance(parsed, dict):
        raise UserError(f"{path}, line {number}: not a JSON object")
    return parsed


def _line(record: Record) -> str:
    return json.dumps(record_to_json(record), allow_nan=False) + "\n"


def _flush(file: IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())
