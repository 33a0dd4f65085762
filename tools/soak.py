"""Runs, kills, resumes and gates over one folder for hours, and shows that nothing is lost and nothing grows.

    python -m tools.soak --minutes 120

Each step is a run of `kill_test.py` that is killed and resumed until it ends. What it wrote is then gated. Each step
prints a line: memory, open files and threads of this process after it has read all files again, files left in the
temporary folder, size of the project's folder, and the number of kills.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

import psutil
from tools.kill_test import Trials

from peftbench.cli import main as peftbench

GROWTH: Final = {"memory MB": 1.1, "open files": 1.0, "threads": 1.0, "temporary": 1.0, "folder kB": 1.3}
"""Column -> largest ratio of the last third of the steps to the first third."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step left, and what this process holds after it."""

    memory_mb: float
    open_files: int
    threads: int
    temporary: int
    """Entries in the temporary folder."""
    folder_kb: float


class Soak:
    """One project, in which the steps run."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._trials = Trials(folder / "project", launches=2, stand_in=False, chance=Random(seed))
        self._trials.whole()

    def step(self) -> tuple[int, Step]:
        """Run, kill, resume, check and gate; return the number of kills, and what is left.

        Raises:
            AssertionError: something that was finished is lost, a process is left, or a command failed.
        """
        before = self._trials.killed
        self._trials.until_it_ends(before + 1)
        if self._trials.faults:
            raise AssertionError("; ".join(self._trials.faults))
        self._gate()
        return self._trials.killed - before, self._left()

    def _gate(self) -> None:
        """Read all files again in this process. The baseline is new each time, because its history grows otherwise."""
        project = self._trials.folder
        run, base, merged = (str(project / name) for name in ("run.json", "baselines", "merged.json"))
        shutil.rmtree(base, ignore_errors=True)
        for command in (
            ["accept", run, "--why", "soak", "--baseline", base],
            ["compare", base, run, "--all"],
            ["merge", run, "-o", merged],
            ["recommend", merged, "--objective", "storage"],
        ):
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
                status = peftbench(command)
            if status not in (0, 1):
                raise AssertionError(f"peftbench {' '.join(command)}: {said.getvalue()}")

    def _left(self) -> Step:
        gc.collect()
        this, project = psutil.Process(), self._trials.folder
        return Step(
            memory_mb=this.memory_info().rss / 1e6,
            open_files=this.num_fds(),
            threads=this.num_threads(),
            temporary=len(list((project / "tmp").iterdir())),
            folder_kb=sum(path.stat().st_size for path in project.rglob("*") if path.is_file()) / 1e3,
        )


def grown(steps: Sequence[Step]) -> list[str]:
    """Return a line for each column that grew by more than `GROWTH` from the first to the last third of the steps."""
    steps = steps[1:] or steps  # the first step makes caches and a first journal, which stay
    third = max(1, len(steps) // 3)
    found = []
    for place, (name, most) in enumerate(GROWTH.items()):
        first, last = (median(astuple(step)[place] for step in part) for part in (steps[:third], steps[-third:]))
        if last > first * most:
            found.append(f"{name}: {first:g} in the first {third} steps, {last:g} in the last")
    return found


def main() -> int:
    """Take steps until the time is over; return 1 if anything grew, and stop at once if anything is lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    steps: list[Step] = []
    end_s = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory(prefix="peftbench-soak-") as name:
        soak = Soak(Path(name), arguments.seed)
        print("".join(f"{column:>12}" for column in GROWTH))
        while time.monotonic() < end_s:
            kills, step = soak.step()
            steps.append(step)
            print("".join(f"{value:12.0f}" for value in astuple(step)), f"{kills} kills", sep="  ", flush=True)
    problems = grown(steps)
    print(f"{len(steps)} steps; " + ("; ".join(problems) or "nothing was lost, and nothing grew"))
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
