"""Reads any file of peftbench that people look at. The schema in the file says which kind it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from peftbench.errors import UserError

if TYPE_CHECKING:
    from peftbench.gate.snapshot import Snapshot
    from peftbench.records.history import History
    from peftbench.records.record import Run
    from peftbench.report.diffs import Diff

    Content = Run | Snapshot | Diff | History

KINDS: Final = "runs, baselines, journals, comparisons (--peftbench-diff-json) and histories"
"""Kinds of files that can be shown."""


def content_of(text: str, path: Path) -> Content:
    """Return the content of a file with this text.

    Raises:
        UserError: the file is none of `KINDS`, or broken; says what is wrong.
    """
    from peftbench.records.fileio import parse_json
    from peftbench.records.journal import salvage

    if _schema(_first_line(text)).rpartition("/")[0] == "peftbench/journal":
        return salvage(path)
    data, source = parse_json(text, source=str(path), what_to_do="is it the right file?"), str(path)
    kind = _schema(data).rpartition("/")[0]
    if kind == "peftbench/run":
        from peftbench.records.runfile import run_from_json

        return run_from_json(data, source)
    if kind == "peftbench/baseline":
        from peftbench.gate.format import from_json

        return from_json(data, source)
    if kind == "peftbench/comparison":
        from peftbench.report.diffs import read_diff

        return read_diff(data, source)
    if kind == "peftbench/history":
        from peftbench.records.history import from_json as history_from_json

        return history_from_json(data, source)
    said = f"its schema is {_schema(data)[:60]!r}" if _schema(data) else "it has no schema"
    raise UserError(f"{path}: is no file that can be shown: {said}; there are {KINDS}")


def _schema(data: object) -> str:
    return str(data.get("schema") or "") if isinstance(data, dict) else ""


def _first_line(text: str) -> object:
    try:
        return json.loads(text.partition("\n")[0])
    except ValueError:
        return None
