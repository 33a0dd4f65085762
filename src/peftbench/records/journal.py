"""The journal: each finished record is on the disk before the next case begins, so that a killed run loses none."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from peftbench.errors import UserError
from peftbench.records.fileio import parse_json, read_text, write_atomically
from peftbench.records.record import Record, Run, record_from_json, record_to_json

SCHEMA: Final = "peftbench/journal/1"
DONE: Final = frozenset({"ok", "unsupported"})
"""Records of another status are measured again when a run is resumed."""
ADVICE: Final = "run without --peftbench-resume"


class Journal:
    """An append-only file: a header that says what the records were taken with, then a record a line."""

    def __init__(self, path: Path, header: Mapping[str, Any], *, resume: bool = False) -> None:
        """Open the journal, anew or where a killed run left it; what was there before is kept beside it as `.old`.

        Raises:
            UserError: under `resume`: there is no journal, it is of other settings, or it cannot be read.
        """
        head = {"schema": SCHEMA, **header}
        self.finished: Mapping[str, Record] = read(path, head) if resume else {}
        if path.exists():
            path.replace(path.with_suffix(".old"))
        write_atomically(path, _line(head) + "".join(map(_record_line, self.finished.values())))
        self._file = path.open("a", encoding="utf-8")

    def append(self, record: Record) -> None:
        """Write one record; when this returns it is on the disk."""
        self._file.write(_record_line(record))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; the journal stays where it is."""
        self._file.close()


def read(path: Path, header: Mapping[str, Any]) -> dict[str, Record]:
    """Return the finished records of a journal by id; a last line that was cut off is left out.

    Raises:
        UserError: no journal, not one of ours, other settings (says which), or a broken line before the last.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no journal to resume; {ADVICE}")
    text = read_text(path)
    first, *lines = text.split("\n")
    _compare_headers(path, parse_json(first, source=str(path), what_to_do=ADVICE), json.loads(_line(header)))
    if lines:
        lines.pop()  # what follows the last newline: nothing, or a record that was cut off
    records: dict[str, Record] = {}
    for number, line in enumerate(lines, start=2):
        data = parse_json(line, source=str(path), line=number, what_to_do=ADVICE)
        record = record_from_json(data, f"{path}:{number}: ")
        if record.status in DONE:
            records[record.id] = record
    return records


def salvage(path: Path) -> Run:
    """Return the finished records of a process that did not live to write its run file.

    Raises:
        UserError: no journal, not one of ours, or a broken line before the last.
    """
    first = read_text(path).partition("\n")[0]
    header = parse_json(first, source=str(path), what_to_do="run the benchmarks again")
    if not isinstance(header, Mapping) or header.keys() != {"schema", "fingerprint", "settings"}:
        raise UserError(f"{path}:1: not a journal of this version ({SCHEMA})")
    records = tuple(read(path, header).values())
    return Run(fingerprint=header["fingerprint"], settings=header["settings"], records=records)


def _compare_headers(path: Path, found: object, wanted: Mapping[str, Any]) -> None:
    if not isinstance(found, Mapping) or found.get("schema") != SCHEMA:
        raise UserError(f"{path}:1: not a journal of this version ({SCHEMA}); {ADVICE}")
    ours, theirs = _flat(wanted), _flat(found)
    different = [
        f"{key[-1]} was {theirs.get(key, 'not set')}, is {ours.get(key, 'not set')}"
        for key in [*ours, *(key for key in theirs if key not in ours)]
        if ours.get(key) != theirs.get(key)
    ]
    if different:
        raise UserError(
            f"--peftbench-resume: {path} holds records of other settings ({'; '.join(different)}); "
            f"give the same settings, or {ADVICE}"
        )


def _flat(header: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """Return what settings and fingerprint hold, apart: both have a `device`."""
    return {
        (part, key): value
        for part, values in sorted(header.items(), reverse=True)  # settings first
        for key, value in (values.items() if isinstance(values, Mapping) else [("", values)])
    }


def _record_line(record: Record) -> str:
    return _line(record_to_json(record))


def _line(data: object) -> str:
    return json.dumps(data, allow_nan=False, sort_keys=True, default=str) + "\n"
