"""The study of the gate: what it injects, given what a unit of work costs within a round."""

import ast
import math
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
from tools import gate_study, launch_spread

ROUND_S = {f"train_step[{name}-nli-bs8]": 0.010 for name in ("full", "head", "ia3", "lora", "oft", "prefix", "vera")}
UNIT_S = {"matmul": 8e-6, "clone": 1e-6, "loop": 1e-8, "sleep": 1.1e-6}


class _Study:
    """Stands for a project whose rounds and units of work take a fixed time."""

    def names(self) -> list[str]:
        return sorted(ROUND_S)

    def calibration(self, probes: Sequence[gate_study.Injection]) -> list[dict[str, Any]]:
        return [
            {"case": one.case, "kind": one.kind, "unit_s": UNIT_S[one.kind], "round_s": ROUND_S[one.case]}
            for one in probes
        ]


@pytest.fixture
def study() -> gate_study.Study:
    return cast("gate_study.Study", _Study())


def test_each_kind_and_size_is_injected_once_a_trial_and_never_into_the_reference(study: gate_study.Study) -> None:
    found = [*gate_study.batches(study, (0.03, 0.10), 2, together=5, seed=0)]
    together = [(one.kind, share) for batch in found for share, one in batch.values()]
    assert set(Counter(together).values()) == {2}
    assert len(together) == 2 * 4 * 2
    assert [len(batch) for batch in found] == [5, 5, 5, 1]
    for batch in found:
        assert all(name == one.case and "[head-" not in name for name, (_, one) in batch.items())


def test_a_slowdown_takes_its_share_of_a_round(study: gate_study.Study) -> None:
    (batch,) = gate_study.batches(study, (0.10,), 1, together=5, seed=0)
    for share, one in batch.values():
        assert one.times * UNIT_S[one.kind] / ROUND_S[one.case] == pytest.approx(share, rel=0.01)


def test_a_study_with_an_end_begins_nothing_that_would_end_later() -> None:
    clock = [0.0]

    def done(seconds: float | None, each: float) -> int:
        clock[0] = 0.0
        count = 0
        for _ in launch_spread.within(range(9), seconds, now=lambda: clock[0]):
            clock[0] += each
            count += 1
        return count

    assert [done(100, each) for each in (10, 30, 60, 300)] == [9, 3, 1, 1]
    assert done(None, 1000) == 9
    assert done(-1, 1) == 0


def test_the_spread_of_launches_is_that_of_each_case_for_wall_and_busy_time() -> None:
    def run(x: float, time_s: float, busy_s: float | None) -> dict[str, Any]:
        metrics = {"time_s": {"value": time_s}, "busy_s": {"value": busy_s}}
        return {"records": [{"id": "a", "launches": [{"x": x}], "metrics": metrics}]}

    launches = [launch_spread.logarithms(run(x, 0.01 * math.exp(x), 0.002)) for x in (0.0, 0.02, 0.04)]
    rows = launch_spread.table(launches)
    assert rows[2:] == [
        "| x base | 1 | 3 | 2.00% | 2.00% | 3.7% |",
        "| wall time | 1 | 3 | 2.00% | 2.00% | 3.7% |",
        "| busy time | 1 | 3 | 0.00% | 0.00% | 0.0% |",
    ]
    assert launch_spread.table(launches[:1]) == rows[:2]
    assert launch_spread.table([]) == rows[:2]
    assert "busy_s" not in launch_spread.logarithms(run(0.0, 0.01, None))


def test_what_the_project_of_the_study_imports_exists() -> None:
    path = Path(gate_study.__file__).with_name("gate_study_project") / "conftest.py"
    tree = ast.parse(path.read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "__future__"]
    for node in imports:
        module = import_module(str(node.module))
        assert all(hasattr(module, name.name) for name in node.names), node.module
