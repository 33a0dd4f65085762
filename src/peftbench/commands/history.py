"""`peftbench history` shows how each case changed from state to state of the code."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from peftbench.errors import UserError
from peftbench.report.sheet import FORMATS

if TYPE_CHECKING:
    from peftbench.commands.arguments import Subparsers


def add_parser(commands: Subparsers) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "history",
        help="how each case changed from release to release, or from commit to commit",
        description="Compare each state of the code with the one before it, in lock-step. Finished steps are kept in a "
        "file, and the same command goes on from there. Exit status: 0 complete, 1 a state or a step is missing, 2 an "
        "error.",
        usage="%(prog)s [options] (--states LIST | --revisions RANGE) [-- PYTEST OPTIONS]",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--states",
        metavar="LIST",
        help='comma-separated, oldest first: revisions, requirements, or both: "peft==0.19.1,peft==0.20.0"',
    )
    which.add_argument("--revisions", metavar="RANGE", help="commits along first parents: v1..HEAD")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth of --revisions, and the last")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("history.json"),
        metavar="FILE",
        help="file of the history; default: history.json",
    )
    parser.add_argument("--format", choices=FORMATS, default="table", help="format of the output; default: table")
    parser.add_argument("pytest", nargs="*", help="files and options of pytest, after --")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Make the missing steps, and print the history."""
    from platformdirs import user_cache_path

    from peftbench.processes.history.stages import checkout, listed, revisions
    from peftbench.processes.history.walk import Walker
    from peftbench.records.fileio import locked
    from peftbench.records.history import continued
    from peftbench.report import history as report
    from peftbench.report import sheet
    from peftbench.text import masked

    if arguments.every < 1:
        raise UserError(f"--every {arguments.every}: must be at least 1")
    folder, options = Path.cwd(), [masked(word) for word in arguments.pytest]
    repository = checkout(arguments.pytest, folder)
    if arguments.states is not None:
        wanted = listed(arguments.states, repository)
    else:
        wanted = revisions(arguments.revisions, arguments.every, repository)
    walker = Walker(
        folder=folder,
        checkout=repository,
        options=arguments.pytest,
        cache=user_cache_path("peftbench"),
        output=arguments.output,
        say=_say,
    )
    with locked(arguments.output):
        continued(arguments.output, options, [])  # refuses another file before anything is installed
        try:
            history = continued(arguments.output, options, walker.prepared(wanted))
            history = walker.walk(history, {one.stage.identity: one.text for one in wanted})
        except KeyboardInterrupt:
            raise UserError(
                f"interrupted; {arguments.output} holds what is finished: the same command goes on"
            ) from None
    width = shutil.get_terminal_size((120, 24)).columns
    sys.stdout.write(sheet.render(report.of_history(history), arguments.format, width=width))
    return 1 if history.left() or any(stage.problem for stage in history.stages) else 0


def _say(line: str) -> None:
    sys.stderr.write(f"peftbench: {line}\n")
    sys.stderr.flush()
