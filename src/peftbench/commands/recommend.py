"""`peftbench recommend` ranks methods by runs, with reasons."""

from __future__ import annotations

import argparse
import shutil
import sys
from functools import partial
from typing import TYPE_CHECKING

from peftbench.commands.claims import add_runs, add_target

if TYPE_CHECKING:
    from peftbench.commands.arguments import Subparsers


def add_parser(commands: Subparsers) -> None:
    """Describe the command."""
    from peftbench.claims.recommend import OBJECTIVES, parse_bytes

    parser = commands.add_parser(
        "recommend",
        help="which method to use, and why",
        description="Rank the methods of a run by an objective.",
        usage="%(prog)s [options] RUN [RUN ...]",
    )
    add_runs(parser)
    add_target(parser)
    parser.add_argument(
        "--objective",
        choices=OBJECTIVES,
        default="cost-to-quality",
        help="what methods are ranked by; default: cost-to-quality",
    )
    parser.add_argument("--memory", metavar="SIZE", type=parse_bytes, help="memory that a training may take: 16GiB")
    parser.add_argument(
        "--tasks",
        metavar="N",
        type=int,
        default=8,
        help="number of tasks to store, for the objective storage; default: 8",
    )
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the ranking; return 1 if no method fits in memory."""
    from peftbench.claims.evidence import load_runs, target_of
    from peftbench.claims.recommend import OBJECTIVES, recommend
    from peftbench.report import recommendation as report

    runs = load_runs(arguments.runs)
    by = partial(
        recommend,
        runs,
        target=target_of(arguments.target, runs),
        memory_bytes=arguments.memory,
        tasks=arguments.tasks,
    )
    ranked = by(arguments.objective)
    if arguments.format == "json":
        sys.stdout.write(report.to_json(ranked))
    elif not ranked:
        sys.stdout.write(report.nothing_ranked(arguments.objective, [other for other in OBJECTIVES if by(other)]))
    else:
        sys.stdout.write(report.render(ranked, width=shutil.get_terminal_size((120, 24)).columns))
    return 0 if any(choice.fits for choice in ranked) else 1
