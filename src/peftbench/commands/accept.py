"""`peftbench accept` makes a run the baseline. It is the only writer of baselines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from peftbench.commands.arguments import add_keyword, add_rule, rule_of
from peftbench.errors import UserError
from peftbench.report.cause import some
from peftbench.report.numbers import counted
from peftbench.text import on_terminal

if TYPE_CHECKING:
    from peftbench.commands.arguments import Subparsers
    from peftbench.gate.accept import Accepted
    from peftbench.gate.constants import Rule


def add_parser(commands: Subparsers) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "accept",
        help="make a run the baseline, or add it to the baseline as a session",
        description="Record the cases of a run in the baseline of its fingerprint. Commit the file with your change.",
        usage="%(prog)s [options] --why TEXT RUN",
    )
    parser.add_argument("run_file", metavar="RUN", type=Path, help="file that --peftbench-json wrote")
    parser.add_argument("--why", required=True, help="reason in one line, which the baseline keeps")
    parser.add_argument(
        "--baseline",
        type=Path,
        default=Path("baselines"),
        metavar="DIR",
        help="folder of baselines; default: baselines",
    )
    parser.add_argument(
        "--append",
        action="store_true",
        help="add the launches of unchanged cases to those of the baseline, instead of replacing them; the oldest "
        "are dropped",
    )
    parser.add_argument("--prune", action="store_true", help="drop cases of the baseline that the run does not have")
    add_keyword(parser)
    add_rule(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the baseline, and print which cases were accepted."""
    from peftbench.gate.accept import AcceptRequest, accept
    from peftbench.gate.load import load_snapshot
    from peftbench.gate.store import file_name, load, save, writing
    from peftbench.processes.git import checked_out

    rule = rule_of(arguments)
    new = load_snapshot(arguments.run_file)
    if new.accepted:
        raise UserError(f"{arguments.run_file}: is a baseline already; give what --peftbench-json wrote")
    request = AcceptRequest(
        why=arguments.why,
        keyword=arguments.keyword,
        append=arguments.append,
        prune=arguments.prune,
        date=datetime.now().astimezone().date().isoformat(),
        commit=checked_out(_existing(arguments.baseline)),
    )
    path = arguments.baseline / file_name(new.fingerprint, new.settings)
    with writing(path):
        accepted = accept(load(path) if path.exists() else None, new, request, rule)
        save(accepted.baseline, path)
    sys.stdout.write("".join(f"{on_terminal(line)}\n" for line in _summary(path, accepted, rule)))
    return 0


def _summary(path: Path, accepted: Accepted, rule: Rule) -> list[str]:
    from peftbench.gate.compare import foreseen

    baseline = accepted.baseline
    lines = [f"{path}: {counted(len(accepted.recorded), 'case')} accepted, {len(accepted.kept)} kept as they were"]
    lines += [f"  {name} not accepted: {problem}" for name, problem in accepted.skipped.items()]
    if accepted.untimed:
        lines.append(
            f"  {counted(len(accepted.untimed), 'case')} without new times, since something else used the GPU or the "
            f"core ({some(accepted.untimed)}): their counters are compared; record again where nothing else runs"
        )
    counts = [len(baseline.launches(name)) for name in accepted.recorded if baseline.cases[name].x]
    young = sum(count < rule.min_baseline for count in counts)
    if young:
        lines.append(
            f"  {counted(young, 'case')} with fewer than {rule.min_baseline} launches, whose time is not compared yet: "
            "record with --peftbench-launches, or accept further runs with --append"
        )
    return lines + _sensitivity(foreseen(baseline, rule), rule)


def _sensitivity(slowdowns: Mapping[str, float], rule: Rule) -> list[str]:
    """Return lines with the slowdown that a gate will find with this baseline."""
    if not slowdowns:
        return []
    lines = [f"  a gate will find a slowdown of {median(slowdowns.values()):.1%} ({rule.power:.0%} power, median case)"]
    blind = [name for name, slowdown in slowdowns.items() if slowdown > rule.limit]
    if blind:
        worst = max(blind, key=lambda name: slowdowns[name])
        lines.append(
            f"  {len(blind)} of {counted(len(slowdowns), 'case')}: only slowdowns above the limit of {rule.limit:.0%} "
            f"({worst}: {slowdowns[worst]:.1%}); record again while nothing else runs (peftbench doctor)"
        )
    return lines


def _existing(folder: Path) -> Path:
    """Return the nearest folder that is there: the first baseline makes its own."""
    whole = folder.resolve()
    return next(place for place in (whole, *whole.parents) if place.is_dir())
