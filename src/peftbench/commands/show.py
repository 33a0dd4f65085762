"""`peftbench show` prints any file of peftbench as a table, or as lines that `git diff` can compare."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from peftbench.errors import UserError
from peftbench.report.contents import KINDS, content_of
from peftbench.report.sheet import FORMATS

if TYPE_CHECKING:
    from peftbench.commands.arguments import Subparsers
    from peftbench.report.sheet import Sheet


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
    from peftbench.gate.snapshot import Snapshot
    from peftbench.records.record import Run
    from peftbench.report import sheets
    from peftbench.report.diffs import Diff

    content = content_of(text, path)
    if isinstance(content, Run):
        return sheets.of_run(content)
    if isinstance(content, Snapshot):
        return sheets.of_baseline(content)
    if isinstance(content, Diff):
        return sheets.of_diff(content)
    from peftbench.report.history import of_history

    return of_history(content)
