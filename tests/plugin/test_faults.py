"""What becomes of case, run and file in each phase: docs/faults.md, cell by cell."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.plugin.faulty import KINDS, PHASES, energy_on_a_cpu, faulty, interrupt, methods
from tests.plugin.running import records

from peftbench.config.settings import Settings
from peftbench.matrix.catalogue import Catalogue
from peftbench.measure.probes import CpuProbes
from peftbench.records.conditions import is_shared
from peftbench.records.ids import Case, MethodSpec
from peftbench.records.journal import Journal
from peftbench.records.record import Record
from peftbench.records.scratch import sweep
from peftbench.run.runner import Runner
from peftbench.workloads.backend import Backend

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"
CONFTEST = """
from peftbench.measure.probes import CpuProbes
from tests.plugin.faulty import energy_on_a_cpu, methods

CpuProbes.energy = energy_on_a_cpu


def pytest_peftbench_methods():
    return methods()
"""
BENCH = """
from peftbench import bench

@bench("train_step")
def train_step(peft_case):
    peft_case.measure()
"""
CELLS = [(phase, kind) for phase in PHASES for kind in KINDS]


def table(first: str) -> list[list[str]]:
    """Return the rows of the page's table whose first column has this title, without the head."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return [rows[0], *rows[2:]]


@dataclass(frozen=True)
class FaultyRun:
    """A real run with a faulty method for each cell, and a plain one at the end."""

    status: int
    printed: str
    records: dict[str, dict[str, Any]]
    """By method."""
    left: list[str]
    """Temporary files."""


@pytest.fixture(scope="module")
def faulty_run(tmp_path_factory: pytest.TempPathFactory) -> FaultyRun:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "tmp").mkdir()
    (folder / "pytest.ini").write_text("[pytest]\npython_files = bench_*.py\n")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "bench_all.py").write_text(BENCH)
    names = ",".join([*(method.name for method in methods()), "head"])
    arguments = (
        *("-q", "--tb=no", "--benchmark-only", "--peftbench-json=run.json", "--peftbench-rounds=1"),
        *(
            "--peftbench-seq-len=8",
            "--peftbench-tasks=nli",
            "--peftbench-batch-sizes=1",
            f"--peftbench-methods={names}",
        ),
    )
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONPATH": paths}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    found = {record["method"]: record for record in records(folder / "run.json").values()}
    for record in found.values():  # the suite's other workers are no fault of the methods'
        record["warnings"] = [warning for warning in record["warnings"] if not is_shared([warning])]
    left = [path.name for path in (folder / "tmp").iterdir() if path.name.startswith("peftbench")]
    return FaultyRun(ended.returncode, ended.stdout, found, left)


@pytest.mark.parametrize(("phase", "kind"), CELLS)
def test_an_error_in_a_phase_becomes_what_the_page_says(faulty_run: FaultyRun, phase: str, kind: str) -> None:
    head, *rows = table("phase")
    cell = next(row for row in rows if row[0] == phase)[head.index(kind)]
    record = faulty_run.records[f"fault{CELLS.index((phase, kind))}"]
    if record["status"] == "ok":
        (warning,) = record["warnings"]
        assert f"ok, with the warning: {warning}" == cell
        assert record["metrics"]["time_s"]["value"] > 0
    else:
        assert f"{record['status']}: {record['reason']}" == cell
        assert "time_s" not in record.get("metrics", {})
        assert record["warnings"] == []


def test_the_run_goes_on_to_its_end_and_leaves_nothing(faulty_run: FaultyRun) -> None:
    statuses = [record["status"] for record in faulty_run.records.values()]
    assert len(statuses) == len(CELLS) + 1
    assert faulty_run.records["head"]["status"] == "ok"
    assert faulty_run.records["head"]["warnings"] == []
    assert faulty_run.status == 1
    passed, skipped = statuses.count("ok"), statuses.count("out-of-memory")
    assert f"{len(statuses) - passed - skipped} failed, {passed} passed, {skipped} skipped" in faulty_run.printed
    assert faulty_run.left == []


def test_the_page_has_all_phases_and_kinds() -> None:
    head, *rows = table("phase")
    assert head == ["phase", *KINDS]
    assert [row[0] for row in rows] == list(PHASES)


class Deed:
    """What the faulty methods of a runner do: set by each test."""

    def __init__(self) -> None:
        self.do: Callable[[], object] = interrupt

    def __call__(self) -> None:
        self.do()


@dataclass(frozen=True)
class Bench:
    """A runner that the tests share, since to make one takes longer than a test."""

    runner: Runner
    deed: Deed

    def measure(self, method: str) -> Record:
        step = Catalogue.load().workload("train_step")
        return self.runner.measure(Case(MethodSpec(method), "nli", 1), step, id=method, observer=lambda timed: timed)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    deed = Deed()
    found = Catalogue.load(methods=[faulty(_name(phase), phase, deed) for phase in PHASES])
    settings = Settings(model="tiny", device="cpu", rounds=1, seq_len=8)
    runner = Runner(Backend.open(settings, found, [found.task("nli")]), session="s")
    yield Bench(runner, deed)
    runner.close()


def _name(phase: str) -> str:
    return f"bad-{list(PHASES).index(phase)}"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(CpuProbes, "energy", energy_on_a_cpu)
    return folder


@pytest.mark.parametrize("phase", PHASES)
def test_an_interrupt_in_a_phase_is_passed_on_and_leaves_nothing(phase: str, bench: Bench, temporary: Path) -> None:
    bench.deed.do = interrupt
    with pytest.raises(KeyboardInterrupt):
        bench.measure(_name(phase))
    assert list(temporary.glob("peftbench-*")) == []
    record = bench.measure("head")
    assert (record.status, record.warnings) == ("ok", ())


def _die(bench: Bench, phase: str, journal: Path, deed: str) -> None:
    """Keep a finished case, and die in the next."""

    def hang() -> None:
        (journal.parent / "hangs").touch()
        time.sleep(600)

    bench.deed.do = hang if deed == "hang" else lambda: os.kill(os.getpid(), signal.Signals[deed])
    kept = Journal(journal, {"settings": {}, "fingerprint": {}})
    case = Case(MethodSpec("head"), "nli", 1)
    kept.append(bench.runner.blank(case, Catalogue.load().workload("train_step"), "head"))
    kept.append(bench.measure(_name(phase)))


@pytest.mark.skipif(sys.platform != "linux", reason="a process is forked, so that torch need not be loaded again")
@pytest.mark.parametrize("deed", ["hang", "SIGKILL"])
@pytest.mark.parametrize("phase", PHASES)
def test_a_process_that_dies_in_a_phase_costs_that_case_alone(
    phase: str, deed: str, bench: Bench, temporary: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.jsonl"
    process = multiprocessing.get_context("fork").Process(target=_die, args=(bench, phase, journal, deed))
    process.start()
    while deed == "hang" and process.is_alive() and not (tmp_path / "hangs").exists():
        time.sleep(0.01)
    if deed == "hang":
        process.kill()  # as `deadline` does
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert list(Journal(journal, {"settings": {}, "fingerprint": {}}, resume=True).finished) == ["head"]
    assert sweep() == (1 if phase == "saving" else 0)
    assert list(temporary.glob("peftbench-*")) == []


def test_an_interrupt_ends_the_run_in_order_and_the_case_is_measured_when_it_is_resumed(
    benches: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.plugin.faulty.KINDS", {"once": _interrupt_once(benches.path / "interrupted")})
    benches.makeconftest(
        "from tests.plugin.faulty import methods\n\n\ndef pytest_peftbench_methods():\n    return methods()"
    )
    arguments = (
        *("--benchmark-only", "-k", "train_step", "--peftbench-json=run.json", "--peftbench-rounds=1"),
        *("--peftbench-seq-len=8", "--peftbench-tasks=nli", "--peftbench-batch-sizes=1"),
        "--peftbench-methods=head,fault4,bitfit",  # in its first step
    )
    result = benches.runpytest_inprocess(*arguments, no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    first = records(benches.path / "run.json")
    assert [record["method"] for record in first.values()] == ["head"]
    benches.runpytest_inprocess(*arguments, "--peftbench-resume").assert_outcomes(passed=2, skipped=1)
    second = records(benches.path / "run.json")
    assert [record["method"] for record in second.values()] == ["head", "fault4", "bitfit"]
    assert second.items() > first.items()


def _interrupt_once(marker: Path) -> Callable[[], None]:
    def deed() -> None:
        if not marker.exists():
            marker.touch()
            raise KeyboardInterrupt

    return deed


def test_a_skip_of_the_users_own_is_a_row_with_its_reason(benches: pytest.Pytester) -> None:
    benches.makepyfile(
        bench_all="""
        import pytest

        def test_mine(peft_case):
            peft_case.measure(lambda model, batch: pytest.skip("not on Tuesdays"))
        """
    )
    arguments = ("--peftbench-methods=head", "--peftbench-tasks=nli", "--peftbench-batch-sizes=1")
    benches.runpytest_inprocess(*arguments, "--peftbench-json=run.json").assert_outcomes(skipped=1)
    (record,) = records(benches.path / "run.json").values()
    assert (record["status"], record["reason"]) == ("unsupported", "Skipped: not on Tuesdays")
