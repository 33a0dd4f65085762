"""`peftbench recommend`: which method to use, as far as runs show it, and why."""

from __future__ import annotations

import argparse
import shutil
import sys
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
        description="Rank the methods of a run by what matters to you.",
        usage="%(prog)s [options] RUN [RUN ...]",
    )
    add_runs(parser)
    add_target(parser)
    parser.add_argument("--objective", choices=OBJECTIVES, default="cost-to-quality", help="default: cost-to-quality")
    parser.add_argument("--memory", metavar="SIZE", type=parse_bytes, help="what a training may take: 16GiB")
    parser.add_argument("--tasks", metavar="N", type=int, default=8, help="tasks to store (storage); default: 8")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the ranking; 1 if no method fits."""
    from peftbench.claims.evidence import load_runs, target_of
    from peftbench.claims.recommend import recommend
    from peftbench.report import recommendation as report

    runs = load_runs(arguments.runs)
    ranked = recommend(
        runs,
        arguments.objective,
        target=target_of(arguments.target, runs),
        memory_bytes=arguments.memory,
        tasks=arguments.tasks,
    )
    if arguments.format == "json":
        sys.stdout.write(report.to_json(ranked))
    else:
        sys.stdout.write(report.render(ranked, width=shutil.get_terminal_size((120, 24)).columns))
    return 0 if any(choice.fits for choice in ranked) else 1
