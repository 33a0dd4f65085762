"""Writes and reads the run file: one JSON object with one record a line, in the form of `run.schema.json`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Final

from peftbench.errors import UserError
from peftbench.records.fileio import read_json, write_atomically
from peftbench.records.jsondata import decode, encode
from peftbench.records.known import KnownNotes, KnownSettings, require, settings_of_today
from peftbench.records.record import SCHEMA, Record, Run, record_from_json
from peftbench.records.versions import Migration, bring_up_to_date

MIGRATIONS: Final[dict[int, Migration]] = {}
"""Version -> the function that turns a file of it into one of the next version. A rise of SCHEMA adds one."""


def save_run(run: Run, path: Path) -> None:
    """Write a run atomically.

    Raises:
        UserError: the file cannot be written, two records share an id, or a number is not finite.
    """
    _refuse_twins(run.records, path)
    head = {"schema": SCHEMA, "fingerprint": run.fingerprint, "settings": run.settings, "notes": run.notes}
    lines = [f"{json.dumps(name)}: {_text(value, path, name)},\n" for name, value in head.items()]
    records = ",\n".join(_text(encode(record), path, f"record {record.id}") for record in run.records)
    write_atomically(path, "{\n" + "".join(lines) + '"records": [\n' + records + "\n]\n}\n")


def load_run(path: Path) -> Run:
    """Read a run back.

    Raises:
        UserError: the file cannot be read, is no run, or has a newer format; says where and what to do.
    """
    data = read_json(path, what_to_do="run the benchmarks again with --peftbench-json")
    return run_from_json(data, str(path))


def run_from_json(data: object, source: str) -> Run:
    """Return the run in JSON data; raises UserError as `load_run` does. Errors name the file `source`."""
    content = bring_up_to_date(data, SCHEMA, MIGRATIONS, source)
    if isinstance(records := content.get("records"), list):  # one at a time, so that errors name the case
        content["records"] = tuple(record_from_json(record, f"{source}: ") for record in records)
    run = decode(Run, content, source)
    run = replace(run, settings=settings_of_today(run.settings))
    require(KnownNotes, run.notes, f"{source}: notes")
    require(KnownSettings, run.settings, f"{source}: settings")
    _refuse_twins(run.records, source)
    return run


def _text(value: object, path: Path, what: str) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: not written, since {what} has no JSON form: {error}") from error


def _refuse_twins(records: tuple[Record, ...], source: str | Path) -> None:
    for id_, count in Counter(record.id for record in records).most_common(1):
        if count > 1:
            raise UserError(f"{source}: {count} records have the id {id_!r}; an id is unique in a run")
