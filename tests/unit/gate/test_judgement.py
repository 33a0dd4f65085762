"""The gate decides how often cases are launched: a function that draws times stands in for the processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from peftbench.gate.constants import Rule
from peftbench.gate.judgement import Gate, Judgement
from peftbench.gate.snapshot import Snapshot
from peftbench.gate.store import file_name, save
from peftbench.records.record import Launch, Metric, Record, Run

MakeSnapshot = Callable[..., Snapshot]
CASES = "abcdefgh"


@dataclass
class Launcher:
    """Remembers what it was asked for, and returns runs of a machine like that of the baseline."""

    baseline: Snapshot
    slower: dict[str, float] = field(default_factory=dict)
    flops: dict[str, float] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    fingerprint: dict[str, str] = field(default_factory=dict)
    calls: list[tuple[str, int, str]] = field(default_factory=list)
    spread: float = 0.005

    def __call__(self, ids: Sequence[str], count: int, known: Set[str]) -> list[Run]:
        self.calls.append(("".join(ids), count, "".join(sorted(known))))
        draw = np.random.default_rng(len(self.calls))
        fingerprint = {**self.baseline.fingerprint, **self.fingerprint}
        settings = dict(self.baseline.settings)
        records = [[self._record(name, draw) for name in ids] for _ in range(count)]
        return [Run(fingerprint, settings, tuple(made)) for made in records]

    def _record(self, name: str, draw: np.random.Generator) -> Record:
        x = 0.2 + self.slower.get(name, 0.0) + float(draw.normal(0, self.spread))
        counters = {"flops": self.flops.get(name, 1000), "operator_calls": 26, "bytecodes": 5000}
        return Record(
            name,
            "train_step",
            "lora",
            "nli",
            8,
            32,
            "failed" if name in self.failed else "ok",
            metrics={key: Metric(value, "1") for key, value in counters.items()},
            launches=() if name in self.failed else (Launch("new", 40, 0.0131, x=x),),
        )


def judged(
    folder: Path,
    launcher: Launcher,
    *,
    ids: str = CASES,
    strict: bool = False,
    covers: Callable[[str], bool] = lambda _: True,
) -> Judgement:
    save(launcher.baseline, folder / file_name(launcher.baseline.fingerprint, launcher.baseline.settings))
    found = Gate(rule=Rule(), folder=folder, strict=strict, covers=covers).judge([*ids], launcher)
    assert found is not None
    return found


def verdicts(found: Judgement) -> dict[str, str]:
    assert found.comparison is not None
    return {case.id: case.verdict for case in found.comparison.cases}


def test_unchanged_cases_are_launched_as_often_as_the_rule_says_and_proven_once(
    make_baseline: MakeSnapshot, tmp_path: Path
) -> None:
    launcher = Launcher(make_baseline())
    found = judged(tmp_path, launcher)
    assert launcher.calls == [(CASES, 1, ""), (CASES, 2, CASES)]
    assert verdicts(found) == dict.fromkeys(CASES, "unchanged")
    assert not found.failed
    assert found.failing == ()
    assert {len(record.launches) for record in found.run.records} == {3}
    (file,) = tmp_path.iterdir()
    assert found.base == f"against {file}"


def test_a_case_that_is_slower_for_certain_needs_no_more(make_baseline: MakeSnapshot, tmp_path: Path) -> None:
    launcher = Launcher(make_baseline(), slower={"b": 0.08})
    found = judged(tmp_path, launcher)
    assert len(launcher.calls) == 2
    assert verdicts(found) == {**dict.fromkeys(CASES, "unchanged"), "b": "regressed"}
    assert found.failed
    assert [getattr(item, "id", "") for item in found.failing] == ["b"]


def test_a_case_in_doubt_is_launched_alone_and_then_beside_siblings(
    make_baseline: MakeSnapshot, tmp_path: Path
) -> None:
    launcher = Launcher(make_baseline(), slower={"b": 0.025})
    found = judged(tmp_path, launcher)
    assert found.comparison is not None
    more = launcher.calls[2:]
    assert [ids for ids, _, _ in more[:2]] == ["b", "b"]
    assert {ids for ids, _, _ in more[2:]} == {"badfh"}
    assert {count for _, count, _ in more} == {1}
    assert 2 < len(more) <= Rule().more_launches
    launches = {record.id: len(record.launches) for record in found.run.records}
    assert launches["b"] == 3 + len(more)
    assert launches["a"] == 1 + len(more)
    assert launches["c"] == 3
    assert found.comparison.detectable == pytest.approx(0.0252, abs=0.001)  # of all ten launches of a suspect


def test_a_counter_that_fails_is_counted_again_and_the_case_is_no_suspect(
    make_baseline: MakeSnapshot, tmp_path: Path
) -> None:
    launcher = Launcher(make_baseline(), flops={"c": 1001}, slower={"c": 0.025})
    found = judged(tmp_path, launcher)
    assert launcher.calls == [(CASES, 1, ""), (CASES, 2, CASES.replace("c", ""))]
    assert verdicts(found)["c"] == "regressed"


def test_a_gate_of_which_each_case_improved_has_compared_them(make_baseline: MakeSnapshot, tmp_path: Path) -> None:
    found = judged(tmp_path, Launcher(make_baseline(), flops=dict.fromkeys(CASES, 900)))
    assert verdicts(found) == dict.fromkeys(CASES, "improved")


def test_a_case_that_failed_is_not_known(make_baseline: MakeSnapshot, tmp_path: Path) -> None:
    launcher = Launcher(make_baseline(), failed=("d",))
    found = judged(tmp_path, launcher)
    assert launcher.calls[1] == (CASES, 2, CASES.replace("d", ""))
    assert verdicts(found)["d"] == "regressed"


def test_on_another_machine_one_launch_is_enough(make_baseline: MakeSnapshot, tmp_path: Path) -> None:
    launcher = Launcher(make_baseline(), fingerprint={"cpu": "other"}, slower={"a": 1.0})
    found = judged(tmp_path, launcher)
    assert launcher.calls == [(CASES, 1, "")]
    assert verdicts(found) == dict.fromkeys(CASES, "unchanged")


def test_cases_that_were_not_asked_for_are_not_missing(make_baseline: MakeSnapshot, tmp_path: Path) -> None:
    launcher = Launcher(make_baseline())
    assert verdicts(judged(tmp_path, launcher, ids="abcdef")) == {
        **dict.fromkeys("abcdef", "unchanged"),
        **dict.fromkeys("gh", "missing"),
    }
    some = judged(tmp_path, launcher, ids="abcdef", covers=lambda name: name != "h")
    assert verdicts(some).keys() == {*"abcdefg"}
    assert not some.failed
    assert judged(tmp_path, launcher, ids="abcdef", strict=True).failed


@pytest.mark.parametrize("strict", [False, True])
def test_without_a_baseline_only_a_strict_gate_fails(
    make_baseline: MakeSnapshot, tmp_path: Path, *, strict: bool
) -> None:
    launcher = Launcher(make_baseline())
    gate = Gate(rule=Rule(), folder=tmp_path / "none", strict=strict, covers=lambda _: True)
    found = gate.judge([*"ab"], launcher)
    assert found is not None
    assert (found.comparison, found.failed, launcher.calls) == (None, strict, [("ab", 1, "")])
    assert found.base.startswith(f"no baseline of these settings in {tmp_path / 'none'} (no such folder): nothing was")
    assert found.failing == ()
    strangers = judged(tmp_path, Launcher(make_baseline()), ids="yz", strict=strict, covers="yz".__contains__)
    assert (strangers.comparison, strangers.failed) == (None, strict)
    assert strangers.base.startswith("none of these cases is in ")
    empty = Gate(rule=Rule(), folder=tmp_path, strict=strict, covers=lambda _: True).judge(
        ["zz"], Launcher(make_baseline())
    )
    assert empty is not None
    assert "(no such folder)" not in empty.base


def test_where_no_case_was_finished_there_is_no_judgement(tmp_path: Path) -> None:
    assert Gate(rule=Rule(), folder=tmp_path, strict=True, covers=lambda _: True).judge(["a"], lambda *_: []) is None
