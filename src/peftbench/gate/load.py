"""Reads a file as a snapshot, whether it holds a baseline or a run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, takewhile
from pathlib import Path
from typing import Final

import msgspec

from peftbench.errors import UserError
from peftbench.gate.format import SCHEMA as BASELINE_SCHEMA
from peftbench.gate.format import from_json, from_text
from peftbench.gate.lines import NOT_AS_WRITTEN, RecordLine, require_each_name_once
from peftbench.gate.snapshot import Snapshot, collect, snapshot_of
from peftbench.records.fileio import parse_json, read_text
from peftbench.records.jsondata import MAX_TEXT
from peftbench.records.record import SCHEMA as RUN_SCHEMA
from peftbench.records.record import Record, record_from_json
from peftbench.records.runfile import run_from_json

_BASELINE: Final = f'{{\n"schema": "{BASELINE_SCHEMA}"'
"""First lines of a baseline."""
_RECORDS: Final = b'"records": [\n'
"""The line after which `save_run` writes one record a line."""
_HEAD_LINES: Final = 20
"""Lines among which that line is."""


def load_snapshot(path: Path) -> Snapshot:
    """Read a baseline or a run.

    Raises:
        UserError: the file cannot be read, or is neither of the two; says where it is wrong and what to do.
    """
    quick = _stream_run(path)
    if quick is not None:
        return quick
    text = read_text(path)
    if text.startswith(_BASELINE):
        return from_text(text, str(path))
    data = parse_json(text, source=str(path))
    schema = data.get("schema") if isinstance(data, dict) else None
    kinds = [name.rpartition("/")[0] for name in (BASELINE_SCHEMA, RUN_SCHEMA)]
    kind = str(schema).rpartition("/")[0]
    if kind not in kinds:
        found = "it has no schema" if schema is None else f"its schema is {str(schema)[:60]!r}"
        raise UserError(f"{path}: is neither a {kinds[0]} nor a {kinds[1]} file: {found}; is it the right file?")
    if kind == kinds[0]:
        return from_json(data, str(path))
    try:
        return snapshot_of(run_from_json(data, str(path)))
    except ValueError as error:
        raise UserError(f"{path}: record {error}: a number is out of range; make the run again") from error


def _stream_run(path: Path) -> Snapshot | None:
    """Read a run in the layout of `save_run`, one record at a time, so that many cases need little memory.

    Returns None for any other file, and if anything is wrong. The careful reader then says what.
    """
    try:
        with path.open("rb") as file:
            head = b"".join(takewhile(lambda line: line != _RECORDS, islice(file, _HEAD_LINES)))
            content = parse_json(head.decode() + '"records": []}', source=str(path))
            if content["schema"] != RUN_SCHEMA:
                return None
            run = run_from_json(content, str(path))
            snapshot = collect(run.fingerprint, run.settings, _records(file, str(path)))
            return snapshot if file.read() == b"}\n" else None
    except (OSError, *NOT_AS_WRITTEN):
        return None


def _records(file: Iterator[bytes], source: str) -> Iterator[RecordLine | Record]:
    decoder = msgspec.json.Decoder(RecordLine)
    another = True
    for line in file:
        ends = line == b"]\n"
        if ends is another:
            raise ValueError("a comma is missing, or is one too many")
        if ends:
            return
        text = line.removesuffix(b"\n")
        another = text.endswith(b",")
        text = text.removesuffix(b",")
        yield _quick(decoder, text) or record_from_json(parse_json(text.decode(), source=source), source)


def _quick(decoder: msgspec.json.Decoder[RecordLine], text: bytes) -> RecordLine | None:
    """Return a record; None if the careful reader must read it. The other records are still read quickly."""
    if len(text) > MAX_TEXT:
        return None
    try:
        record = decoder.decode(text)
        require_each_name_once(text, record)
    except (ValueError, msgspec.MsgspecError):
        return None
    return record
