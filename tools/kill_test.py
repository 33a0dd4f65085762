"""Kills runs at random moments, resumes them, and looks for what was lost or left behind.

    python tools/kill_test.py --kills 100

A kill is one of: SIGKILL of the run, of one of its launches or of the whole group, SIGTERM, SIGINT twice. A killed run
is resumed until it ends by itself. Then another run begins. After each kill every finished case must be in its journal
as before, and no process may be left. After each end the run file must hold all cases with all their launches, and no
temporary file may be left. Prints the counts, and exits with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[1]
BENCH: Final = """
from peftbench import bench

@bench("train_step")
def train_step(peft_case):
    peft_case.measure()

@bench("save")
def save(peft_case):
    peft_case.measure()
"""
STAND_IN: Final = "import time\n\nFLOPS = 100\n\n\ndef work(method):\n    time.sleep(0.02)\n"
"""Module that replaces the model under --stand-in (`tests/plugin/standin.py`)."""
ARGUMENTS: Final = (
    *("-q", "-p", "no:cacheprovider", "--benchmark-only", "--peftbench-rounds=3", "--peftbench-seq-len=8"),
    *("--peftbench-model=tiny", "--peftbench-device=cpu", "--peftbench-json=run.json"),
    *("--peftbench-workloads=train_step,save", "--peftbench-methods=full,head,lora,pfeiffer"),
    *("--peftbench-tasks=nli", "--peftbench-batch-sizes=2"),
)
CASES: Final = 8
KINDS: Final = ("SIGKILL of the run", "SIGKILL of a launch", "SIGKILL of the group", "SIGTERM", "SIGINT twice")
PATIENCE_S: Final = 60.0
"""Seconds that killed processes may take to end."""
LONGEST_S: Final = 900.0
"""Seconds that a run may take that is not killed."""

Finished = dict[tuple[str, str], dict[str, Any]]
"""Journal and id of a case -> its record."""


@dataclass
class Trials:
    """Runs of one project that are killed, and the faults that were found."""

    folder: Path
    launches: int
    stand_in: bool
    chance: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    ends: int = 0
    lasts_s: float = 1.0
    """Seconds of a run that is not killed."""

    def __post_init__(self) -> None:
        (self.folder / "src").mkdir(parents=True)
        (self.folder / "tmp").mkdir()
        (self.folder / "pytest.ini").write_text("[pytest]\npython_files = bench_*.py\n", encoding="utf-8")
        (self.folder / "bench_all.py").write_text(BENCH, encoding="utf-8")
        (self.folder / "src" / "underlying.py").write_text(STAND_IN, encoding="utf-8")

    def start(self, *, resume: bool) -> subprocess.Popen[bytes]:
        """Start the run in a session of its own, as a terminal would."""
        plugins = ("-p", "pytest_benchmark.plugin", "-p", "peftbench.plugin", "-p", "tests.plugin.standin")
        more = [
            *(plugins if self.stand_in else ()),
            *([f"--peftbench-launches={self.launches}"] if self.launches else ()),
            *(["--peftbench-resume"] if resume else ()),
        ]
        paths = [str(self.folder / "src"), str(ROOT / "src"), str(ROOT)]
        environment = {
            **os.environ,
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONPATH": os.pathsep.join(paths),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            **({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} if self.stand_in else {}),
        }
        with (self.folder / "log.txt").open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - pytest on our own project
                [sys.executable, "-m", "pytest", *ARGUMENTS, *more],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def clear(self) -> None:
        """Delete the files of the last run."""
        shutil.rmtree(self.folder / ".peftbench", ignore_errors=True)
        (self.folder / "run.json").unlink(missing_ok=True)

    def journals(self) -> Finished:
        """Return the finished cases of all journals. A line that was cut off is left out."""
        found: Finished = {}
        for journal in sorted((self.folder / ".peftbench").rglob("journal.jsonl")):
            for line in journal.read_bytes().split(b"\n")[1:-1]:
                record = json.loads(line)
                found[str(journal.relative_to(self.folder)), record["id"]] = record
        return found

    @property
    def killed(self) -> int:
        """Number of kills."""
        return sum(self.kills.values())

    def conduct(self, count: int) -> None:
        """Kill `count` times. The last run ends by itself."""
        self.whole()
        while self.killed < count:
            self.clear()
            self.until_it_ends(count)

    def whole(self) -> None:
        """Run without a kill, to see how long that takes."""
        start_s = time.monotonic()
        self._end(self.start(resume=False))
        self.lasts_s = time.monotonic() - start_s

    def until_it_ends(self, most: float = math.inf) -> None:
        """Run, kill the run at random moments and resume it, until it ends by itself or there were `most` kills."""
        known: Finished = {}
        while self.killed < most:
            if not self._killed(known):
                return
        self._end(self.start(resume=bool(known)))

    def _killed(self, known: Finished) -> bool:
        """Start the run, kill it at a random moment and look; return whether it was killed before its end."""
        kind = self.chance.choice(KINDS if self.launches else [kind for kind in KINDS if "launch" not in kind])
        process = self.start(resume=bool(known))
        session = process.pid
        try:
            process.wait(self.chance.uniform(0.0, self.lasts_s))
        except subprocess.TimeoutExpired:
            deliver(process, kind, self.chance)
            self.kills[kind] += 1
            print(f"\r{self.killed} kills, {len(self.faults)} faults", end="", file=sys.stderr, flush=True)
        else:
            self._look_at_end(process)
            known.clear()
            return False
        process.wait(LONGEST_S)  # a run that lost a launch goes on with the next one
        self._look_for_processes(session, kind)
        now = self.journals()
        for key, record in known.items():
            if now.get(key) != record:
                self.faults.append(
                    f"{kind}: {' '.join(key)} was finished, and is {'gone' if key not in now else 'other'}"
                )
        known.clear()
        known.update(now)
        return True

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.wait(LONGEST_S)
        self._look_at_end(process)

    def _look_at_end(self, process: subprocess.Popen[bytes]) -> None:
        """Compare the run file with the journals, and look for temporary files."""
        self.ends += 1
        if process.returncode != 0:
            said = (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace")
            self.faults.append(f"a run that nobody killed ended with {process.returncode}: {said[-2000:]}")
            return
        self._look_for_processes(process.pid, "the end")
        records = {one["id"]: one for one in json.loads((self.folder / "run.json").read_text("utf-8"))["records"]}
        if len(records) != CASES:
            self.faults.append(f"{len(records)} of {CASES} cases are in the run file")
        for (journal, case), record in self.journals().items():
            times = [launch["time_s"] for launch in records.get(case, {}).get("launches", ())]
            if not {launch["time_s"] for launch in record["launches"]} <= set(times):
                self.faults.append(f"{case} of {journal} is not in the run file")
        for case, record in records.items():
            if len(record["launches"]) != max(self.launches, 1):
                self.faults.append(f"{case} has {len(record['launches'])} launches")
        self.faults += [f"left behind: {path}" for path in self._left_behind()]

    def _left_behind(self) -> Iterator[str]:
        """Yield temporary files of peftbench, without the folders that pytest and torch keep for later runs."""
        for path in self.folder.rglob("*"):
            name = str(path.relative_to(self.folder))
            if name.endswith((".tmp", ".lock")) or (
                path.parent == self.folder / "tmp" and path.name.startswith("peftbench-")
            ):
                yield name

    def _look_for_processes(self, session: int, kind: str) -> None:
        """Wait for the end of all processes of a run, and record those that are left as faults."""
        end_s = time.monotonic() + PATIENCE_S
        while (alive := members(session)) and time.monotonic() < end_s:
            time.sleep(0.05)
        for process in alive:
            self.faults.append(f"{kind}: process {process.pid} is left")
            process.kill()


def members(session: int) -> list[psutil.Process]:
    """Return the running processes of a session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return found


def deliver(process: subprocess.Popen[bytes], kind: str, chance: random.Random) -> None:
    """Kill a run in the way `kind`."""
    try:
        if kind == "SIGKILL of a launch":
            children = psutil.Process(process.pid).children()
            if children:
                chance.choice(children).kill()
                return
            process.kill()
        elif kind == "SIGKILL of the run":
            process.kill()
        elif kind == "SIGTERM":
            process.terminate()
        elif kind == "SIGKILL of the group":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(chance.uniform(0.0, 0.5))
            os.killpg(process.pid, signal.SIGINT)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return


def main() -> int:
    """Kill runs, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument(
        "--launches", type=int, default=2, help="launches of a run; 0: the cases run in the killed process"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stand-in", action="store_true", help="measure a function that sleeps instead of models")
    options = parser.parse_args()
    if options.stand_in and not options.launches:
        parser.error("the stand-in takes the place of models in launches only")
    with tempfile.TemporaryDirectory(prefix="kill-test-") as name:
        trials = Trials(Path(name) / "project", options.launches, options.stand_in, random.Random(options.seed))
        trials.conduct(options.kills)
    print(file=sys.stderr)
    for kind, count in sorted(trials.kills.items()):
        print(f"{count:4} x {kind}")
    print(f"{trials.killed} kills, {trials.ends} runs that ended, {len(trials.faults)} faults")
    for fault in trials.faults:
        print(f"  {fault}")
    return 1 if trials.faults else 0


if __name__ == "__main__":
    sys.exit(main())
