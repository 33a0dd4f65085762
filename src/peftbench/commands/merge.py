"""`peftbench merge` joins the shards of a run, or several launches, in one run file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from peftbench.errors import UserError
from peftbench.text import on_terminal

if TYPE_CHECKING:
    from peftbench.commands.arguments import Subparsers


def add_parser(commands: Subparsers) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "merge",
        help="join the shards of a run, or several launches, in one file",
        description="Join the runs of --peftbench-shard. Exit status: 0 complete, 1 cases are missing (they are "
        "listed, and the file is written), 2 an error.",
        usage="%(prog)s [options] RUN... -o FILE",
    )
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="files that --peftbench-json wrote")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="file for the joined run")
    parser.add_argument(
        "--launches", action="store_true", help="the files hold launches of the same cases: merge them, with medians"
    )
    parser.set_defaults(run=run)


def _twice(paths: Sequence[Path]) -> Path:
    return next(path for place, path in enumerate(paths) if path in paths[:place])


def run(arguments: argparse.Namespace) -> int:
    """Write the joined run, and list what is missing."""
    from peftbench.records.joining import merge_launches
    from peftbench.records.runfile import load_run, save_run
    from peftbench.records.shards import join_shards
    from peftbench.report.numbers import counted

    runs = {str(path): load_run(path) for path in arguments.runs}
    if len(runs) < len(arguments.runs):
        raise UserError(f"{_twice(arguments.runs)}: is given twice; name each file once")
    whole, missing = (merge_launches(runs), ()) if arguments.launches else join_shards(runs)
    save_run(whole, arguments.output)
    kept = f"{counted(len(whole.records), 'case')} of {counted(len(runs), 'file')}"
    sys.stdout.write(f"{on_terminal(str(arguments.output))}: {kept}\n")
    sys.stderr.write("".join(f"missing: {on_terminal(what)}\n" for what in missing))
    return 1 if missing else 0
