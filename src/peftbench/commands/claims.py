"""`peftbench claims` judges the claims of the paper by runs."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from peftbench.commands.arguments import Subparsers

FORMATS: Final = ("table", "markdown", "json")


def add_parser(commands: Subparsers) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "claims",
        help="which claims of the paper hold",
        description="Judge each claim of the paper's abstract by runs. A claim holds, does not hold, or is not shown.",
        usage="%(prog)s [options] RUN [RUN ...]",
    )
    add_runs(parser)
    add_target(parser)
    parser.add_argument("--format", choices=FORMATS, default="table")
    parser.add_argument("--all", action="store_true", help="also list every case (table only)")
    parser.set_defaults(run=run)


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Add the run files."""
    parser.add_argument(
        "runs", metavar="RUN", type=Path, nargs="+", help="files that --peftbench-json wrote, all of one model"
    )


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the target, to which costs are compared."""
    parser.add_argument(
        "--target",
        metavar="SCORE",
        help="quality to which costs are compared: a score, or a share of full fine-tuning's; default: the run's",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the findings."""
    from peftbench.claims.evidence import load_runs, target_of
    from peftbench.claims.paper import judge
    from peftbench.report import claims as report

    runs = load_runs(arguments.runs)
    target = target_of(arguments.target, runs)
    findings = judge(runs, target)
    if arguments.format == "json":
        text = report.to_json(findings, target=str(target))
    elif arguments.format == "markdown":
        text = report.markdown(findings)
    else:
        text = report.render(
            findings,
            width=shutil.get_terminal_size((120, 24)).columns,
            everything=arguments.all,
            color=sys.stdout.isatty() and "NO_COLOR" not in os.environ,
        )
    sys.stdout.write(text)
    return 0
