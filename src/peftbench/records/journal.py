"""The journal, a file to which each record is written before the next case begins. A killed run loses no record."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from peftbench.errors import UserError
from peftbench.records.fileio import NotJsonError, parse_json, temporary_beside, write_atomically
from peftbench.records.jsondata import Json, decode
from peftbench.records.record import Record, Run, record_from_json, record_to_json
from peftbench.records.workfolder import ELSE, owned

KIND: Final = "peftbench/journal/"
SCHEMA: Final = f"{KIND}1"
DONE: Final = frozenset({"ok", "unsupported"})
"""Statuses of records that a resumed run keeps. Other cases are measured again."""
ADVICE: Final = "run without --peftbench-resume"
_BEGINNING: Final = f'{{"{min(field.name for field in fields(Record))}": '.encode()
"""Start of each record: names are sorted, and this one is always there. Inside a text its quotes are escaped."""


class Journal:
    """An append-only file: a header with settings and fingerprint, then one record a line."""

    def __init__(self, path: Path, header: Mapping[str, Any], *, resume: bool = False) -> None:
        """Own the folder, and open a new journal, or that of a killed run.

        An earlier journal is kept as `.old`. It also keeps its own name until the new journal is on the disk.

        Raises:
            UserError: another run owns the folder, the file is no journal of ours, or it cannot be written. With
                `resume` also: there is no journal, it has other settings, or it cannot be read.
        """
        head = {"schema": SCHEMA, **header}
        with ExitStack() as stack:
            stack.enter_context(owned(path.parent))
            self.broken: tuple[int, ...] = ()
            """Numbers of lines that cannot be read. Their cases are measured again."""
            self.finished: Mapping[str, Record] = {}
            if resume:
                self.finished, self.broken = _read(path, head)
            _keep(path, path.with_suffix(".old"))
            write_atomically(path, _line(head) + "".join(map(_record_line, self.finished.values())))
            self._path = path
            self._file = _open(path)
            stack.callback(os.close, self._file)
            self._size = os.fstat(self._file).st_size
            self._resources = stack.pop_all()

    def append(self, record: Record) -> None:
        """Write one record to the disk.

        Raises:
            UserError: the record cannot be written. No part of it is left, and earlier records are whole.
        """
        data = _record_line(record).encode()
        try:
            _write(self._file, data)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise UserError(
                f"{self._path}: cannot be written: {error.strerror or error}; finished records are in it: free "
                "some space, and run again with --peftbench-resume"
            ) from error
        self._size += len(data)

    def close(self) -> None:
        """Close the file, and release the folder. The file stays."""
        self._resources.close()


def readable(record: Record) -> Record:
    """Return a record as it will be read back.

    A record that cannot be read back, because a number is not finite, is replaced by one with the status `failed`.

    Raises:
        UserError: the id is too long, so that the replacement cannot be read back either.
    """
    try:
        return _read_back(record)
    except UserError as error:
        reason = f"what was measured cannot be kept: {error}"
    bare = Record(
        id=record.id,
        workload=record.workload,
        method=record.method,
        task=record.task,
        batch_size=record.batch_size,
        seq_len=record.seq_len,
        status="failed",
        reason=reason,
    )
    return _read_back(bare)


def _read_back(record: Record) -> Record:
    return record_from_json(json.loads(json.dumps(record_to_json(record), default=str)))


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
    os.fsync(descriptor)


def _keep(path: Path, old: Path) -> None:
    """Give a journal a second name, which an older journal loses."""
    temporary = temporary_beside(old)
    try:
        for file in (path, old):
            if os.path.lexists(file) and not _is_ours(file):
                raise UserError(f"{file}: is no journal of peftbench, and would be replaced; move it away, or {ELSE}")
        if path.exists():
            try:
                os.link(path, temporary)
            except OSError:  # a file system without links
                shutil.copyfile(path, temporary)
            temporary.replace(old)
    except OSError as error:
        raise UserError(f"{old}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.readline(1_000_000)
    try:
        header = parse_json(first.decode(), source="")
    except (UserError, UnicodeDecodeError):
        return not first
    return isinstance(header, Mapping) and str(header.get("schema")).startswith(KIND)


def read(path: Path, header: Mapping[str, Any]) -> dict[str, Record]:
    """Return the finished records of a journal by id. Lines that are cut off or garbled are left out.

    Raises:
        UserError: there is no journal, it is none of ours, it has other settings (says which), or a line is JSON and no
            record.
    """
    return _read(path, header)[0]


def _read(path: Path, header: Mapping[str, Any]) -> tuple[dict[str, Record], tuple[int, ...]]:
    if not path.exists():
        raise UserError(f"{path}: there is no journal to resume; {ADVICE}")
    first, *lines = _lines(path)
    _compare_headers(path, _header(first, path, ADVICE), json.loads(_line(header)))
    if lines:
        lines.pop()  # after the last newline: nothing, or a record that was cut off
    records: dict[str, Record] = {}
    broken = []
    for number, line in enumerate(lines, start=2):
        data = _last_object(line, path, number)
        if data is None:
            broken.append(number)
            continue
        record = record_from_json(data, f"{path}:{number}: ")
        if record.status in DONE:
            records[record.id] = record
    return records, tuple(broken)


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def _header(line: bytes, path: Path, what_to_do: str) -> Json:
    return parse_json(line.decode(errors="replace"), source=str(path), what_to_do=what_to_do)


def _last_object(line: bytes, path: Path, number: int) -> Json | None:
    """Return the record of a line as JSON data; None if the line is garbled.

    If an append was cut off and another one followed, the line ends with the whole record of the second append.
    """
    for begin in dict.fromkeys((0, max(line.rfind(_BEGINNING), 0))):
        with suppress(NotJsonError, UnicodeDecodeError):
            return parse_json(line[begin:].decode(), source=str(path), line=number, what_to_do=ADVICE)
    return None


def salvage(path: Path) -> Run:
    """Return the finished records of a process that died before it wrote its run file.

    Raises:
        UserError: there is no journal, it is none of ours, or a line is JSON and no record.
    """
    header = _header(_lines(path)[0], path, "run the benchmarks again")
    if not isinstance(header, Mapping) or header.get("schema") != SCHEMA:
        raise UserError(f"{path}:1: not a journal of this version ({SCHEMA})")
    head = decode(_Head, {name: value for name, value in header.items() if name != "schema"}, f"{path}:1")
    return Run(fingerprint=head.fingerprint, settings=head.settings, records=tuple(read(path, header).values()))


@dataclass(frozen=True, slots=True)
class _Head:
    fingerprint: Mapping[str, str]
    settings: Mapping[str, Any]


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
    """Return the entries of settings and fingerprint by part and name, because both have a `device`."""
    return {
        (part, key): value
        for part, values in sorted(header.items(), reverse=True)  # settings first
        for key, value in (values.items() if isinstance(values, Mapping) else [("", values)])
    }


def _record_line(record: Record) -> str:
    return _line(record_to_json(record))


def _line(data: object) -> str:
    return json.dumps(data, allow_nan=False, sort_keys=True, default=str) + "\n"
