"""`peftbench doctor` measures how noisy this machine is, and says what can be improved."""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from peftbench.commands.arguments import add_rule, rule_of
from peftbench.errors import UserError
from peftbench.text import on_terminal

if TYPE_CHECKING:
    from peftbench.commands.arguments import Subparsers
    from peftbench.gate.constants import Rule
    from peftbench.gate.noise import Machine
    from peftbench.records.record import Run

BENCH: Final = """
from peftbench import bench

@bench("train_step")
def train_step(peft_case):
    peft_case.measure()
"""
MATRIX: Final = (
    "--peftbench-methods=full,bitfit,lora,ia3,dora",
    "--peftbench-tasks=nli",
    "--peftbench-batch-sizes=8",
)
ROWS: Final = (3, 5, 10, 20)
"""Numbers of launches for which the smallest slowdown is printed."""


def add_parser(commands: Subparsers) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "doctor",
        help="how noisy this machine is, and what can be improved",
        description="Run a few cases in several processes, and print the smallest slowdown that a gate would see here.",
        usage="%(prog)s [options] [-- PYTEST OPTIONS]",
    )
    parser.add_argument("--launches", type=int, default=5, metavar="N", help="processes to run; default: 5")
    parser.add_argument(
        "--budget", type=float, metavar="MINUTES", help="also print what a gate of this duration would see"
    )
    parser.add_argument("pytest", nargs="*", help="options of pytest after --, such as --peftbench-device=cuda")
    add_rule(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print the report."""
    from peftbench.gate.noise import Machine
    from peftbench.processes.readable import project, readable_diffs
    from peftbench.records.runfile import load_run

    rule = rule_of(arguments)
    if arguments.launches < 2:  # noqa: PLR2004 - one has no spread
        raise UserError(f"--launches {arguments.launches}: must be at least 2, since launches are compared")
    machine = Machine.read()
    with tempfile.TemporaryDirectory(prefix="peftbench-") as name:
        folder = Path(name)
        _measure(folder, arguments.launches, arguments.pytest)
        found = load_run(folder / "run.json")
    threads = int(found.fingerprint.get("threads", "1"))
    lines = [*report(found, machine, rule, threads, arguments.budget), *readable_diffs(project(Path.cwd()))]
    sys.stdout.write("".join(f"{on_terminal(line)}\n" for line in lines))
    return 0


def report(found: Run, machine: Machine, rule: Rule, threads: int, budget_min: float | None) -> list[str]:
    """Return the lines of the report."""
    from peftbench.gate.noise import advice, drift, noise_of, seconds_a_launch, smallest_slowdowns

    noise = noise_of(found)
    if math.isnan(noise.ratio):
        raise UserError("no case was measured twice; the output above tells why")
    one_s = seconds_a_launch(found, noise.launches)
    rows = list(ROWS)
    if budget_min is not None:
        rows = sorted({*rows, max(rule.launches, int(budget_min * 60 / one_s))})
    lines = [
        f"{len(found.records)} cases, {noise.launches} launches of the same code, {one_s:.0f} s a launch",
        f"spread between launches: {noise.time:.1%} of the raw time, {noise.ratio:.1%} of the ratio to the base step",
        f"drift from the first launch to the last: {drift(found):+.1%}",
        "",
        f"smallest slowdown that is seen with {rule.power:.0%} power, against {rule.full_baseline} launches:",
    ]
    for count, slowdown in zip(rows, smallest_slowdowns(noise, rows, rule), strict=True):
        lines.append(f"  {count:3} launches ({count * one_s / 60:.1f} min of these cases): {slowdown:.1%}")
    hints = list(advice(machine, threads=threads, environment=os.environ))
    return [*lines, "", *([f"- {hint}" for hint in hints] or ["nothing to improve was found"])]


def _measure(folder: Path, launches: int, more: Sequence[str]) -> None:
    from peftbench.processes.launches.process import plugin_option

    (folder / "bench_doctor.py").write_text(BENCH, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\npython_files = bench_*.py\n", encoding="utf-8")
    done = subprocess.run(  # noqa: S603 - this interpreter
        [
            *(sys.executable, "-m", "pytest", str(folder), *plugin_option(), "-q", "--benchmark-only", *MATRIX, *more),
            *(f"--peftbench-launches={launches}", f"--peftbench-json={folder / 'run.json'}"),
            *(f"--rootdir={folder}", f"--config-file={folder / 'pytest.ini'}"),
        ],
        check=False,
    )
    if not (folder / "run.json").exists():
        raise UserError(f"nothing was measured (pytest ended with status {done.returncode}); see above")
