import math
import subprocess
from pathlib import Path

import numpy as np
import pytest

from peftbench.commands import doctor
from peftbench.commands.doctor import report
from peftbench.errors import UserError
from peftbench.gate.constants import Rule
from peftbench.gate.noise import Machine, Noise, advice, drift, noise_of, smallest_slowdowns
from peftbench.records.record import Launch, Record, Run


def record(name: str, *launches: Launch) -> Record:
    return Record(name, "train_step", "lora", "nli", 8, 32, "ok", launches=launches)


def run_of(spread: float, launches: int, cases: int = 200) -> Run:
    draws = np.random.default_rng(0).normal(0.3, spread, (cases, launches))
    records = tuple(
        Record(
            f"c{i}",
            "train_step",
            "lora",
            "nli",
            8,
            32,
            "ok",
            launches=tuple(Launch("s", 9, math.exp(2 * x), x=x) for x in row),
        )
        for i, row in enumerate(draws.tolist())
    )
    return Run({"threads": "1"}, {}, records, {"duration_s": 60.0 * launches})


def test_the_spread_is_that_of_the_launches() -> None:
    noise = noise_of(run_of(0.01, 10))
    assert noise.ratio == pytest.approx(0.01, rel=0.05)
    assert noise.time == pytest.approx(0.02, rel=0.05)
    assert noise.launches == 10
    assert math.isnan(noise_of(run_of(0.01, 1)).ratio)


def test_more_launches_and_less_noise_see_smaller_slowdowns() -> None:
    rule = Rule()
    three, ten = smallest_slowdowns(Noise(0.01, 0.1, 5), [3, 10], rule)
    assert 0.01 < ten < three
    assert smallest_slowdowns(Noise(0.02, 0.1, 5), [10], rule)[0] > ten
    # Two-sample t of 10 against 20 launches, df 38, p < 0.0009: 1 % + (3.357 + 1.304) x 1 % x sqrt(3/20)
    assert ten == pytest.approx(math.expm1(math.log1p(0.01) + (3.357 + 1.304) * 0.01 * math.sqrt(0.15)), abs=1e-4)


def test_drift_is_the_change_of_the_raw_time() -> None:
    def launched(*times_s: float) -> Record:
        return record("c", *(Launch("s", 9, time_s, x=0.0) for time_s in times_s))

    once = (launched(3.0), launched(4.0), launched())
    assert drift(Run({}, {}, (*once, launched(2.0, 5.0, 2.2)))) == pytest.approx(0.1)
    assert drift(Run({}, {}, once)) == 0.0


def test_what_linux_says_is_read(tmp_path: Path) -> None:
    for place, text in {
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "performance\n",
        "sys/devices/system/cpu/intel_pstate/no_turbo": "0\n",
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
        "proc/cpuinfo": "flags\t\t: fpu hypervisor\n",
    }.items():
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = Machine.read(tmp_path)
    assert (found.governors, found.boost, found.quota, found.virtual) == (
        frozenset({"powersave", "performance"}),
        True,
        1.5,
        True,
    )
    empty = Machine.read(tmp_path / "nothing")
    assert (empty.governors, empty.boost, empty.quota, empty.virtual) == (frozenset(), None, None, False)


@pytest.mark.parametrize(
    ("name", "text", "boost"),
    [
        ("intel_pstate/no_turbo", "1", False),
        ("intel_pstate/no_turbo", "0", True),
        ("cpufreq/boost", "1", True),
        ("cpufreq/boost", "0", False),
    ],
)
def test_the_boost_is_read_as_each_driver_writes_it(tmp_path: Path, name: str, text: str, *, boost: bool) -> None:
    path = tmp_path / "sys/devices/system/cpu" / name
    path.parent.mkdir(parents=True)
    path.write_text(f"{text}\n")
    assert Machine.read(tmp_path).boost is boost


@pytest.mark.parametrize("text", ["max 100000", "", "150000", "a b"])
def test_no_quota_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sys/fs/cgroup/cpu.max"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert Machine.read(tmp_path).quota is None


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (Machine(cores=4, load=1.5), "load 1.5 on 4 cores"),
        (Machine(cores=2), "4 threads share 2 cores"),
        (Machine(cores=8, quota=1.5), "a quota of 1.5 cores"),
        (Machine(cores=8, governors=frozenset({"powersave", "performance"})), "powersave"),
        (Machine(cores=8, boost=True), "boosts"),
        (Machine(cores=8, swap_used_bytes=10**9), "1000 MB"),
        (Machine(cores=8, virtual=True), "--peftbench-against"),
    ],
)
def test_each_thing_that_can_be_improved_is_said(machine: Machine, said: str) -> None:
    (hint,) = advice(machine, threads=4, environment={"OMP_NUM_THREADS": "4"})
    assert said in hint


def test_the_report_has_the_budget_and_the_hints() -> None:
    lines = report(run_of(0.01, 5), Machine(cores=2, boost=True), Rule(), 1, 7.5)
    assert lines[0] == "200 cases, 5 launches of the same code, 60 s a launch"
    assert any(line.startswith("    7 launches (7.0 min") for line in lines)
    assert lines[-1].startswith("- the clock boosts")
    with pytest.raises(UserError, match="no case was measured twice"):
        report(run_of(0.01, 1), Machine(cores=2), Rule(), 1, None)


def test_relative_paths_of_pytest_options_are_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:  # no cwd: the user's own
        given.extend(command)
        return subprocess.CompletedProcess(command, int(check))

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(UserError, match="nothing was measured"):
        doctor._measure(tmp_path, 2, ["--peftbench-model=./mine"])
    assert {str(tmp_path), f"--rootdir={tmp_path}", "--peftbench-model=./mine"} <= set(given)
