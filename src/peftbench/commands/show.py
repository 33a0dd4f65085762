"""`peftbench show` prints any file of peftbench as a table, or as lines that `git diff` can compare."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from peftbench.errors import UserError
from peftbench.report.sheet import FORMATS

if TYPE_CHECKING:
    from peftbench.commands.arguments import Subparsers
    from peftbench.report.sheet import Sheet

KINDS: Final = "runs, baselines, journals, comparisons (--peftbench-diff-json) and histories"
"""Kinds of files that can be shown."""


def add_parser(commands: Subparsers) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "show",
        help="print a run, baseline, journal, comparison or history as a table",
        description=f"Print the content of a file: {KINDS}.",
    )
    parser.add_argument("file", metavar="FILE", type=Path)
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--format", choices=FORMATS, default="table", help="json and csv hold every number; default: table"
    )
    how.add_argument(
        "--textconv",
        action="store_true",
        help="print each number on its own line, for `git diff` (docs/history.md); print any other file as it is",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the file."""
    from peftbench.records.fileio import read_text
    from peftbench.report import sheet

    if not arguments.textconv:
        found = sheet_of(read_text(arguments.file), arguments.file)
        sys.stdout.write(sheet.render(found, arguments.format, width=shutil.get_terminal_size((120, 24)).columns))
        return 0
    try:
        found = sheet_of(read_text(arguments.file), arguments.file)
    except UserError:  # after an error git would show no diff of any file
        sys.stdout.write(_as_it_is(arguments.file))
        return 0
    sys.stdout.writelines(f"{line}\n" for line in sheet.lines(found))
    return 0


def _as_it_is(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def sheet_of(text: str, path: Path) -> Sheet:
    """Return the content of a file as a sheet.

    Raises:
        UserError: the file is none of ours, or broken; says what is wrong.
    """
    from peftbench.records.fileio import parse_json
    from peftbench.records.journal import salvage
    from peftbench.report import sheets

    if _schema(_first_line(text)).rpartition("/")[0] == "peftbench/journal":
        return sheets.of_run(salvage(path))
    data = parse_json(text, source=str(path), what_to_do="is it the right file?")
    kind = _schema(data).rpartition("/")[0]
    if kind == "peftbench/run":
        from peftbench.records.runfile import run_from_json

        return sheets.of_run(run_from_json(data, str(path)))
    if kind == "peftbench/baseline":
        from peftbench.gate.format import from_json

        return sheets.of_baseline(from_json(data, str(path)))
    if kind == "peftbench/comparison":
        from peftbench.report.diffs import read_diff

        return sheets.of_diff(read_diff(data, str(path)))
    if kind == "peftbench/history":
        from peftbench.records.history import from_json as history_from_json
        from peftbench.report.history import of_history

        return of_history(history_from_json(data, str(path)))
    said = f"its schema is {_schema(data)[:60]!r}" if _schema(data) else "it has no schema"
    raise UserError(f"{path}: is no file that can be shown: {said}; there are {KINDS}")


def _schema(data: Any) -> str:  # noqa: ANN401 - any JSON
    return str(data.get("schema") or "") if isinstance(data, dict) else ""


def _first_line(text: str) -> object:
    try:
        return json.loads(text.partition("\n")[0])
    except ValueError:
        return None
