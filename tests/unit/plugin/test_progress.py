import math
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
from scipy import stats
from tests.unit.report.test_terminal import FULL, HOLE, LORA

from peftbench.plugin.progress import Progress, describe, medians, student, time_left


@pytest.mark.parametrize(
    ("done", "total", "left_s", "line"),
    [
        (0, 5, None, "0 of 5 cases"),
        (1, 5, (8.0, -math.inf, math.inf), "1 of 5 cases, about 8 s left"),
        (4, 5, (8.0, 6.6, 9.4), "4 of 5 cases, about 8 s left (7 to 9)"),
        (100, 288, (225.6, 170.0, 290.0), "100 of 288 cases, about 4 min left (3 to 5)"),
        (100, 288, (225.6, 225.0, 226.0), "100 of 288 cases, about 4 min left"),
        (288, 288, (0.0, 0.0, 0.0), "288 of 288 cases"),
    ],
)
def test_what_is_left_is_told_with_its_uncertainty(
    done: int, total: int, left_s: tuple[float, float, float] | None, line: str
) -> None:
    assert describe(done, total, left_s) == line


def test_the_rest_takes_as_long_as_what_was() -> None:
    assert time_left([], 4) is None
    assert time_left([2.0], 4) == (8.0, -math.inf, math.inf)
    assert time_left([2.0, 2.0, 2.0], 4) == (8.0, 8.0, 8.0)
    middle, low, high = time_left([1.5, 2.0, 2.5, 2.0], 6) or (0, 0, 0)
    assert middle == 12
    half = stats.t.ppf(0.975, 3) * math.sqrt(0.5 / 3) * math.sqrt(6 + 36 / 4)
    assert [low, high] == pytest.approx([12 - half, 12 + half], abs=0.1)


def test_the_interval_holds_the_time_of_the_rest_as_often_as_it_says() -> None:
    draw, held = random.Random(0), 0
    for _ in range(400):
        times = [draw.gauss(1.0, 0.2) for _ in range(40)]
        _, low, high = time_left(times[:10], 30) or (0, 0, 0)
        held += low <= sum(times[10:]) <= high
    assert held / 400 == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("freedom", [2, 3, 5, 10, 100])
def test_the_quantile_is_students(freedom: int) -> None:
    assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=0.035)


def test_the_medians_of_a_group_are_those_of_its_records() -> None:
    other = replace(LORA, task="ner", id="train_step[lora-ner-bs8]")
    inference = replace(LORA, workload="inference", id="inference[lora-nli-bs8]")
    found = [LORA, FULL, HOLE, other, inference]
    assert medians(found, "nli-bs8") == "nli-bs8: train_step 9.20 (lora) to 12.4 ms (full), inference 9.20 ms (lora)"
    assert medians([HOLE], "nli-bs8") == ""


@pytest.mark.parametrize(("value", "changes"), [("", True), ("false", True), ("true", False), ("1", False)])
def test_in_ci_a_terminal_is_a_log(value: str, changes: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    monkeypatch.setenv("CI", value)
    told: list[object] = []
    bench = SimpleNamespace(ids={}, resumed=frozenset(), runner=SimpleNamespace(tell_passes=told.append))
    Progress(SimpleNamespace(isatty=True, verbosity=0), [], bench)  # type: ignore[arg-type]
    assert bool(told) == changes
