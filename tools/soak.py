"""Runs, kills, resumes and gates over one folder for hours, and shows that nothing is lost and nothing grows.

    python -m tools.soak --minutes 120

Each step runs the same cases in two launches, kills the run at a random moment in one of five ways, and resumes it
until it ends. It checks that cases that were finished before the kill are in the run file with the same times, and
gates the run. Each step prints a line: memory, open files and threads of this process after it has read all files
again, files left in the temporary folder, size of the work folder, and processes that are left.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final

import psutil

from peftbench.cli import main as peftbench

BENCH: Final = """
from peftbench import bench

@bench("train_step")
def train_step(peft_case):
    peft_case.measure()
"""
ARGUMENTS: Final = (
    *("-q", "--benchmark-only", "--peftbench-methods=full,head,lora", "--peftbench-tasks=nli"),
    *("--peftbench-batch-sizes=2", "--peftbench-seq-len=16", "--peftbench-rounds=3", "--peftbench-launches=2"),
    "--peftbench-json=run.json",
)
CASES: Final = 3
LAUNCHES: Final = 2
KILLS: Final = ("SIGKILL of parent", "SIGKILL of child", "SIGKILL of group", "SIGTERM", "SIGINT twice")
PATIENCE_S: Final = 600.0
GROWTH: Final = {"memory MB": 1.1, "open files": 1.0, "threads": 1.0, "temporary": 1.0, "folder kB": 1.3, "left": 1.0}
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
    left: int
    """Processes that outlived the run."""


class Soak:
    """One project, in which the steps run."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._project = folder / "project"
        self._temporary = folder / "tmp"
        self._project.mkdir()
        self._temporary.mkdir()
        (self._project / "bench_soak.py").write_text(BENCH, encoding="utf-8")
        (self._project / "pytest.ini").write_text("[pytest]\npython_files = bench_*.py\n", encoding="utf-8")
        self._random = Random(seed)
        self._whole_s = 0.0
        """Seconds of a run that is not killed; 0 before the first such run."""

    def step(self) -> tuple[str, Step]:
        """Run, kill, resume, check and gate; return what was done, and what is left.

        Raises:
            AssertionError: something that was finished is lost, or a command failed.
        """
        kill = self._random.choice(KILLS)
        after_s = self._random.uniform(0, 1.1 * self._whole_s) if self._whole_s else PATIENCE_S
        start_s = time.monotonic()
        process = self._started()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after_s)
        killed = process.poll() is None
        if killed:
            self._kill(process, kill)
        process.wait(PATIENCE_S)
        if not killed:
            self._whole_s = time.monotonic() - start_s
        _gone(process.pid, self._project)
        before = self._finished()
        done = self._started("--peftbench-resume") if killed else process
        _expect(
            done.wait(PATIENCE_S) == 0, f"after {kill} at {after_s:.1f} s a resumed run ended with {done.returncode}"
        )
        if killed:
            self._check(before, f"{kill} at {after_s:.1f} s")
        self._gate()
        what = f"{kill} at {after_s:5.1f} s, {sum(map(len, before.values()))} kept" if killed else "whole"
        return what, self._left()

    def _started(self, *more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - this interpreter
            [sys.executable, "-m", "pytest", *ARGUMENTS, *more],
            cwd=self._project,
            env={**os.environ, "TMPDIR": str(self._temporary), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _kill(self, process: subprocess.Popen[bytes], how: str) -> None:
        children = psutil.Process(process.pid).children(recursive=True)
        if how == "SIGKILL of child" and children:
            children[0].kill()
        elif how == "SIGKILL of group":
            os.killpg(process.pid, signal.SIGKILL)
        elif how == "SIGTERM":
            process.terminate()
        elif how == "SIGINT twice":
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.2)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
        else:
            process.kill()

    def _finished(self) -> dict[str, dict[str, float]]:
        """Return the time of each case that a journal holds, by launch."""
        found: dict[str, dict[str, float]] = {}
        for journal in (self._project / ".peftbench" / "launches").glob("*/journal.jsonl"):
            for record in _lines(journal):
                if record.get("status") == "ok":
                    found.setdefault(journal.parent.name, {})[record["id"]] = record["launches"][0]["time_s"]
        return found

    def _check(self, before: dict[str, dict[str, float]], when: str) -> None:
        run = json.loads((self._project / "run.json").read_text(encoding="utf-8"))
        times = {record["id"]: [launch["time_s"] for launch in record["launches"]] for record in run["records"]}
        _expect({len(found) for found in times.values()} == {LAUNCHES}, f"launches are missing after {when}: {times}")
        _expect(len(times) == CASES, f"cases are missing after {when}: {list(times)}")
        for launch, cases in before.items():
            for case, time_s in cases.items():
                _expect(time_s in times[case], f"{case} of launch {launch} was finished before {when}, and is lost")

    def _gate(self) -> None:
        """Read all files again in this process. The baseline is new each time, because its history grows otherwise."""
        shutil.rmtree(self._project / "baselines", ignore_errors=True)
        run, base = str(self._project / "run.json"), str(self._project / "baselines")
        merged = str(self._project / "merged.json")
        commands: list[Sequence[str]] = [
            ["accept", run, "--why", "soak", "--baseline", base],
            ["compare", base, run, "--all"],
            ["merge", run, "-o", merged],
            ["recommend", merged, "--objective", "storage"],
        ]
        for command in commands:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
                status = peftbench(command)
            _expect(status in (0, 1), f"peftbench {' '.join(command)}: {said.getvalue()}")

    def _left(self) -> Step:
        gc.collect()
        this = psutil.Process()
        files = [path for path in self._project.rglob("*") if path.is_file()]
        return Step(
            memory_mb=this.memory_info().rss / 1e6,
            open_files=this.num_fds(),
            threads=this.num_threads(),
            temporary=len(list(self._temporary.iterdir())),
            folder_kb=sum(path.stat().st_size for path in files) / 1e3,
            left=len(list(_of(self._project))),
        )


def _lines(journal: Path) -> Iterator[dict[str, Any]]:
    for line in journal.read_bytes().splitlines()[1:]:
        with contextlib.suppress(ValueError):  # cut off by the kill
            yield json.loads(line)


def _of(project: Path) -> Iterator[psutil.Process]:
    """Yield processes that run in a project."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == str(project):
                yield process


def _gone(pid: int, project: Path) -> None:
    """Wait until no process of a killed run is left. A child stops at its next case."""
    end_s = time.monotonic() + PATIENCE_S
    while any(True for _ in _of(project)) and time.monotonic() < end_s:
        time.sleep(0.2)
    _expect(not list(_of(project)), f"processes of run {pid} are left")


def _expect(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - a condition
    if not holds:
        raise AssertionError(otherwise)


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
            what, step = soak.step()
            steps.append(step)
            print("".join(f"{value:12.0f}" for value in astuple(step)), what, sep="  ", flush=True)
    problems = grown(steps)
    print(f"{len(steps)} steps; " + ("; ".join(problems) or "nothing was lost, and nothing grew"))
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
