"""The standing of methods: means over tasks and batch sizes, against closed forms."""

import math
from dataclasses import replace

import pytest
from tests.records import a_record
from tests.unit.report.test_answer import case, matrix

from peftbench.claims.samples import launch_ratios
from peftbench.claims.standing import Standings, standings
from peftbench.records.record import Launch, Metric, Record


def sized(method: str, task: str, **metrics: float) -> Record:
    return a_record(method, task=task, metrics={name: Metric(value, "1") for name, value in metrics.items()})


def mean(found: Standings, name: str, method: str = "lora") -> float:
    return found.methods[method][name].mean.value


def test_costs_are_averaged_as_factors_and_shares_as_they_are() -> None:
    costs = {"peak_bytes": 8.0, "energy_j": 10.0, "trainable_body": 1000.0, "checkpoint_bytes": 90.0}
    found = standings(
        [
            *(sized("full", task, **costs) for task in ("nli", "ner")),
            sized("lora", "nli", peak_bytes=4.0, energy_j=5.0, trainable_body=100.0, checkpoint_bytes=10.0),
            sized("lora", "ner", peak_bytes=2.0, energy_j=20.0, trainable_body=300.0, checkpoint_bytes=20.0),
        ]
    )
    assert [one.name for one in found.quantities] == ["memory", "trained", "checkpoint", "energy"]
    assert mean(found, "memory") == pytest.approx(math.sqrt(0.5 * 0.25))
    assert mean(found, "energy") == pytest.approx(math.sqrt(0.5 * 2.0))
    assert mean(found, "trained") == pytest.approx((0.1 + 0.3) / 2)
    assert mean(found, "checkpoint") == pytest.approx(15.0)  # a size, and no quotient
    assert (found.methods["lora"]["memory"].least, found.methods["lora"]["memory"].most) == pytest.approx((0.25, 0.5))


def test_what_is_merged_is_compared_with_the_inference_of_the_plain_model() -> None:
    found = standings(
        [
            case("full", 2.0, workload="inference"),
            case("lora", 3.0, workload="inference"),
            case("full", 100.0, workload="merged_inference"),
            case("lora", 2.5, workload="merged_inference"),
        ]
    )
    assert mean(found, "inference") == pytest.approx(1.5)
    assert mean(found, "merged_inference") == pytest.approx(1.25)


def test_training_stands_before_inference_and_both_before_other_workloads() -> None:
    workloads = ("save", "attach", "inference", "train_step")
    records = [case(method, 1.0, workload=name) for name in workloads for method in ("full", "lora")]
    records += [replace(one, id=f"mine[{one.method}-nli-bs8]") for one in records[:2]]
    found = standings(records)
    assert [one.name for one in found.quantities] == ["training", "inference", "save", "attach", "mine"]


def test_launches_that_only_one_side_has_are_left_out() -> None:
    mine, theirs = (
        a_record(method, launches=tuple(Launch("s", 9, 0.1, 0.1, x) for x in xs))
        for method, xs in (("lora", (0.3, 0.5, 9.0)), ("full", (0.1, 0.2)))
    )
    found = launch_ratios(mine, theirs)
    assert [one and one.value for one in found.values()] == pytest.approx([0.2, 0.3])


def test_the_interval_of_a_mean_spans_the_rounds_of_both_sides() -> None:
    found = standings(matrix()).methods["lora"]["training"].mean
    assert found.value == pytest.approx(0.5 ** (1 / 3))
    assert (found.low, found.high) == pytest.approx((found.value * 0.99 / 1.01, found.value * 1.01 / 0.99))


def test_a_mean_over_launches_has_students_interval() -> None:
    def launched(method: str, *xs: float) -> Record:
        return replace(case(method, math.exp(xs[1])), launches=tuple(Launch("s", 9, 0.1, 0.1, x) for x in xs))

    found = standings([launched("full", 0.0, 0.0, 0.0), launched("lora", 0.1, 0.2, 0.3)])
    mean = found.methods["lora"]["training"].mean
    half = 4.302652729696142 * 0.1 / math.sqrt(3)  # the 97.5 % quantile of t with two degrees of freedom
    assert (mean.low, mean.high) == pytest.approx((math.exp(0.2 - half), math.exp(0.2 + half)))
    assert found.launches == 3


def test_marks_need_intervals_that_lie_apart() -> None:
    wide = [case("full", 1.0), case("lora", 0.98, width=0.05), case("ia3", 0.97, width=0.05)]
    found = standings(wide)
    assert found.quantities[0].name == "training"
    assert list(map(set, found.extremes(found.quantities[0]))) == [set(), set()]
    apart = standings([*wide, case("dora", 1.5)])
    assert list(map(set, apart.extremes(apart.quantities[0]))) == [{"full", "lora", "ia3"}, {"dora"}]
