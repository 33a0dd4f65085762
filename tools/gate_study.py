"""Measures the gate on this machine: false alarms on unchanged code, and slowdowns that are found.

    python tools/gate_study.py --aa=30 --trials=20 --lockstep=20 --folder=/tmp/study

    python tools/gate_study.py --minutes=8 --sessions=1 --spread=10 --folder=/tmp/study -- --peftbench-device=cuda

With --minutes it stops where the next run would not end in time.

Prints the tables of docs/evidence/gate-runs.md. Every run has real processes, models and rounds. Slowdowns are extra
work within the round (`gate_study_project/conftest.py`). Finished runs are kept in the folder, and a study that is
started again goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle, product
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.launch_spread import logarithms, table, within

from peftbench.processes.git import git

PROJECT: Final = Path(__file__).with_name("gate_study_project")
FELT: Final = "felt.jsonl"
"""File in the project with the times of slowdowns within their rounds."""
KINDS: Final = ("matmul", "clone", "loop", "sleep")
SHARES: Final = (0.03, 0.05, 0.10)
AIM: Final = 1.2
"""Longest time of a gate without changes, relative to its three launches."""
REFERENCE: Final = "head"
"""Method of the reference. Slowing it down would slow both sides."""
PROBES: Final = {"matmul": 20, "clone": 100, "loop": 20_000, "sleep": 200}
"""Kind -> units of work with which the time of one unit within a round is measured."""


class Study:
    """A project in a folder, and the results of its gate."""

    def __init__(self, folder: Path, matrix: Sequence[str]) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.results = folder / "results.jsonl"
        self._matrix = matrix
        if not self.project.exists():
            shutil.copytree(PROJECT, self.project, ignore=shutil.ignore_patterns("__pycache__"))
            (self.project / "pytest.ini").write_text("[pytest]\npython_files = bench_*.py\n")
            (self.project / ".gitignore").write_text("*.json\n*.jsonl\n.peftbench/\n__pycache__/\n")
            for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "the code that is compared with"]):
                git(self.project, "-c", "user.name=study", "-c", "user.email=study@example.org", *words)

    def pytest(self, *arguments: str) -> tuple[int, float]:
        """Run pytest on the project; return exit status and seconds."""
        start = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark-only", *self._matrix]
        with (self.folder / "log.txt").open("a") as log:
            done = subprocess.run(  # noqa: S603 - pytest, with the options of whoever runs the study
                [*command, *arguments], cwd=self.project, stdout=log, stderr=log, check=False
            )
        return done.returncode, time.monotonic() - start

    def baseline(self, sessions: int) -> float:
        """Record and accept `sessions` sessions of five launches; return the median of their seconds."""
        for number in range(len(self._accepted()), sessions):
            status, seconds = self.pytest("--peftbench-record")
            if status:
                sys.exit(f"the baseline could not be recorded: see {self.folder / 'log.txt'}")
            more = ["--append"] if number else []
            accept = [sys.executable, "-m", "peftbench.cli", "accept", ".peftbench/run.json", "--why=study", *more]
            if subprocess.run(accept, cwd=self.project, check=False).returncode:  # noqa: S603 - fixed words
                sys.exit(f"the session was not accepted: start the study again, and it goes on from {self.folder}")
            self._keep({"key": f"session {number}", "seconds": seconds})
        taken = [float(result["seconds"]) for result in self._results() if result["key"].startswith("session ")]
        if not taken:
            sys.exit(f"{self.results} does not say how long a session took: give another --folder")
        return statistics.median(taken)

    def _accepted(self) -> list[Any]:
        return list(self._baseline().get("accepted", []))

    def names(self) -> list[str]:
        """Return the ids of the cases."""
        return sorted(self._baseline()["cases"])

    def _baseline(self) -> dict[str, Any]:
        """Return the content of the only file of baselines; an empty one before the first session is accepted."""
        files = (self.project / "baselines").glob("*.json")
        return next((dict(json.loads(file.read_text())) for file in files), {})

    def calibration(self, probes: Sequence[Injection]) -> list[dict[str, Any]]:
        """Run one launch with slowdowns; return the time of each within a round, and of the round without it."""
        key = "calibration"
        if (known := self._known(key)) is None:
            with self._injected(probes):
                status, _ = self.pytest()
            if status:
                sys.exit(f"the launch failed: see {self.folder / 'log.txt'}")
            known = {"key": key, "felt": self._felt()}
            self._keep(known)
        felt: list[dict[str, Any]] = known["felt"]
        return felt

    def _felt(self) -> list[dict[str, Any]]:
        """Return the times of slowdowns that the processes of the last run wrote."""
        return [json.loads(line) for line in (self.project / FELT).read_text().splitlines()]

    def trial(self, key: str, injections: Sequence[Injection], *arguments: str) -> dict[str, Any]:
        """Run one gate, or return its result from an earlier start of the study."""
        if (known := self._known(key)) is not None:
            return known
        diff = self.folder / "diff.json"
        diff.unlink(missing_ok=True)
        with self._injected(injections):
            status, seconds = self.pytest(f"--peftbench-diff-json={diff}", *arguments)
        if not diff.exists():
            sys.exit(f"{key} ended with status {status}: see {self.folder / 'log.txt'}")
        found = json.loads(diff.read_text())
        felt: dict[str, list[float]] = defaultdict(list)
        for one in self._felt() if injections else ():
            felt[one["case"]].append(one["share"])
        # Without times where others used the core: none is compared then.
        launches = [case["time"]["new_launches"] for case in found["cases"] if "time" in case]
        result = {
            "key": key,
            "seconds": seconds,
            "felt": {name: statistics.median(shares) for name, shares in felt.items()},
            "regressed": [case["id"] for case in found["cases"] if case["verdict"] == "regressed"],
            "timed": [case["id"] for case in found["cases"] if case.get("time", {}).get("verdict") == "regressed"],
            "suite": [item["name"] for item in found["suite"] if item["verdict"] == "regressed"],
            "changes": {case["id"]: case["time"]["change"] for case in found["cases"] if "time" in case},
            "launches": statistics.mean(launches) if launches else 0,
            "detectable": found["detectable"],
        }
        self._keep(result)
        return result

    @contextmanager
    def _injected(self, injections: Sequence[Injection]) -> Iterator[None]:
        path = self.project / "injection.json"
        (self.project / FELT).unlink(missing_ok=True)
        path.write_text(json.dumps([asdict(injection) for injection in injections]))
        try:
            yield
        finally:
            path.unlink()

    def _keep(self, result: dict[str, Any]) -> None:
        with self.results.open("a") as file:
            file.write(json.dumps(result) + "\n")

    def _known(self, key: str) -> dict[str, Any] | None:
        return next((result for result in self._results() if result["key"] == key), None)

    def _results(self) -> list[dict[str, Any]]:
        return [*map(json.loads, self.results.read_text().splitlines())] if self.results.exists() else []

    def launch(self, number: int) -> dict[str, dict[str, float]]:
        """Run all passes of all cases in one process; return the logarithms of its times, busy times too."""
        key = f"launch {number}"
        if (known := self._known(key)) is None:
            path = self.folder / "launch.json"
            path.unlink(missing_ok=True)
            self.pytest("--peftbench-energy=off", f"--peftbench-json={path}")
            if not path.exists():
                sys.exit(f"the launch failed: see {self.folder / 'log.txt'}")
            known = {"key": key, "logarithms": logarithms(json.loads(path.read_text()))}
            self._keep(known)
        found: dict[str, dict[str, float]] = known["logarithms"]
        return found


@contextmanager
def load(processes: int) -> Iterator[None]:
    """Keep a number of processes busy within the context."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Injection:
    """A slowdown of one case."""

    case: str
    kind: str
    times: int
    """Units of work of this kind in a round."""


@dataclass(frozen=True)
class Costs:
    """Times of a unit of work within a round, and of rounds without it."""

    unit_s: dict[str, float]
    """Kind -> seconds of a unit of work."""
    round_s: dict[str, float]
    """Case -> seconds of a round, without the cases of the reference."""

    @classmethod
    def of(cls, study: Study) -> Costs:
        """Measure both in one launch in which every case is slowed down."""
        names = [name for name in study.names() if f"[{REFERENCE}-" not in name]
        probes = [Injection(case, kind, PROBES[kind]) for case, kind in zip(names, cycle(KINDS), strict=False)]
        felt = study.calibration(probes)
        units = {kind: statistics.median(one["unit_s"] for one in felt if one["kind"] == kind) for kind in KINDS}
        return cls(units, {one["case"]: one["round_s"] for one in felt})

    def slowed(self, case: str, kind: str, share: float) -> Injection:
        """Return a slowdown of a case by a share of its round."""
        return Injection(case, kind, max(1, round(share * self.round_s[case] / self.unit_s[kind])))


Planned = dict[str, tuple[float, Injection]]
"""Case -> share by which it is slowed down, and the slowdown."""


def batches(study: Study, shares: Sequence[float], trials: int, *, together: int, seed: int) -> Iterator[Planned]:
    """Yield the injections of each gate run: every kind and share `trials` times, at most `together` cases in a run."""
    draw, costs = random.Random(seed), Costs.of(study)
    rest = [one for _ in range(trials) for one in draw.sample([*product(KINDS, shares)], len(KINDS) * len(shares))]
    while rest:
        part, rest = rest[:together], rest[together:]
        cases = draw.sample(sorted(costs.round_s), len(part))
        yield {case: (share, costs.slowed(case, kind, share)) for case, (kind, share) in zip(cases, part, strict=True)}


def false_alarms(study: Study, runs: int, processes: int, three_s: float, seconds: float | None = None) -> str:
    """Return a row: gate runs on unchanged code, and their time relative to three launches."""
    name = f"A/A, {processes} busy processes beside" if processes else "A/A"
    with load(processes):
        results = [study.trial(f"{name} {number}", [], "--peftbench-gate") for number in within(range(runs), seconds)]
    if not results:
        return f"| {name} | no time was left | | | |"
    runs = len(results)
    alarms = sum(bool(result["regressed"] or result["suite"]) for result in results)
    times = sorted(result["seconds"] / three_s for result in results)
    launches = statistics.mean(result["launches"] for result in results)
    seen = statistics.median(result["detectable"] or 0 for result in results)
    return (
        f"| {name} | {alarms} of {runs} | {launches:.2f} | {statistics.median(times):.2f} "
        f"({times[0]:.2f}-{times[-1]:.2f}), {sum(time <= AIM for time in times)} | {seen:.1%} |"
    )


def detection(study: Study, planned: Iterable[Planned], mode: str) -> list[str]:
    """Return rows: the share of injected slowdowns that is found by time, and by time or counters."""
    option = "--peftbench-gate" if mode == "gate" else "--peftbench-against=HEAD"
    found: dict[tuple[str, float], list[tuple[bool, bool, float, float, float]]] = defaultdict(list)
    false = runs = 0
    for number, batch in enumerate(planned):
        result = study.trial(f"{mode} {number}", [one for _, one in batch.values()], option)
        for name, (share, one) in batch.items():
            seen = name in result["timed"], name in result["regressed"]
            found[one.kind, share].append((*seen, result["felt"][name], result["changes"][name], result["seconds"]))
        runs += 1
        false += len({*result["regressed"]} - batch.keys())
    rows = []
    for (kind, share), results in sorted(found.items()):
        clock, either, felt, measured, seconds = zip(*results, strict=True)
        count = len(results)
        rows.append(
            f"| {mode} | {kind} | {share:.0%} | {statistics.median(felt):.1%} ({min(felt):.1%}-{max(felt):.1%}) "
            f"| {statistics.median(measured):.1%} ({min(measured):.1%}-{max(measured):.1%}) "
            f"| {sum(clock)} of {count} | {sum(either)} of {count} | {statistics.median(seconds):.0f} s |"
        )
    rows.append(f"\n{mode}: {runs} runs, {false} cases called slower that were not slowed down")
    return rows


def main() -> None:
    """Run the study and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder for project, baseline and results")
    parser.add_argument("--sessions", type=int, default=4, help="sessions of five launches in the baseline; default: 4")
    parser.add_argument("--aa", type=int, default=0, metavar="N", help="gate runs on unchanged code")
    parser.add_argument("--minutes", type=float, metavar="M", help="stop where the next run would end later")
    parser.add_argument("--spread", type=int, default=0, metavar="N", help="launches whose times are compared")
    parser.add_argument("--load", type=int, default=0, metavar="N", help="busy processes during those runs")
    parser.add_argument("--trials", type=int, default=0, metavar="N", help="slowdowns of each kind and size")
    parser.add_argument(
        "--lockstep",
        type=int,
        default=0,
        metavar="N",
        help="slowdowns of each kind and size, in lock-step with a commit",
    )
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="sizes; default: 0.03 0.05 0.1")
    parser.add_argument("--together", type=int, default=6, metavar="N", help="cases slowed down in one run; default: 6")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("matrix", nargs="*", help="after --: options of the cases; default: 24 cases")
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    matrix = arguments.matrix or ["--peftbench-tasks=nli", "--peftbench-batch-sizes=8"]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    study = Study(arguments.folder.resolve(), matrix)
    begun = time.monotonic()

    def left_s() -> float | None:
        return None if arguments.minutes is None else 60 * arguments.minutes - (time.monotonic() - begun)

    three_s = study.baseline(arguments.sessions) * 3 / 5
    print(f"{len(study.names())} cases; three launches take {three_s:.0f} s")
    if arguments.spread:
        print("", *table([study.launch(number) for number in within(range(arguments.spread), left_s())]), sep="\n")
    if arguments.aa:
        print(
            "\n| code unchanged | false alarms | launches a case | time over three launches: median (range), "
            f"at most {AIM} | smallest slowdown seen |\n" + "| --- " * 5 + "|"
        )
        print(false_alarms(study, arguments.aa, arguments.load, three_s, left_s()))
    if arguments.trials or arguments.lockstep:
        print("\n| mode | slowdown | size | its own time | estimate | found by the clock | found | time |")
        print("| --- " * 8 + "|")
    for mode, trials in (("gate", arguments.trials), ("lock-step", arguments.lockstep)):
        if trials:
            injected = batches(study, arguments.shares, trials, together=arguments.together, seed=arguments.seed)
            print(*detection(study, within(injected, left_s()), mode), sep="\n")


if __name__ == "__main__":
    main()
