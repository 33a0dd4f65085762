from dataclasses import replace
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.records import a_record

from peftbench.errors import UserError
from peftbench.records.joining import join, merge_launches, merge_metrics, merge_records
from peftbench.records.record import Launch, Metric, Record, Run


def record(name: str = "a", *, status: str = "ok", x: float = 0.0, flops: float = 10.0) -> Record:
    return a_record(
        id=name,
        batch_size=1,
        seq_len=8,
        status=status,
        reason="" if status == "ok" else "no memory",
        metrics={"time_s": Metric(1 + x, "s", noise="timed"), "flops": Metric(flops, "FLOP")},
        launches=(Launch("day", 10, 1 + x, x=x),),
        passes_s={"time": 2.0},
        stop="budget",
        quantiles_s=(x, 2 * x),
    )


def run(*records: Record, machine: str = "m", duration_s: float = 1.0) -> Run:
    return Run({"cpu": machine, "torch": "2"}, {"seed": 0}, records, {"duration_s": duration_s, "note": machine})


def test_launches_of_a_case_are_one_record_with_medians() -> None:
    merged = merge_launches({"1": run(record(x=0.1)), "2": run(record(x=0.4)), "3": run(record(x=0.2))})
    (found,) = merged.records
    assert [launch.x for launch in found.launches] == [0.1, 0.4, 0.2]
    time_s = found.metrics["time_s"]
    assert (time_s.value, time_s.low, time_s.high) == (1.2, 1.1, 1.4)
    assert found.quantiles_s == (0.2, 0.4)
    assert found.passes_s == {"time": 6.0}
    stops = [replace(record(), stop=stop) for stop in ("budget", "precision", "precision")]
    assert merge_records(stops).stop == "precision"  # what ended most of them
    assert found.warnings == ()
    assert merged.notes == {"duration_s": 3.0, "note": "m", "passes_s": {}}


def test_cases_that_only_some_launches_have_are_kept() -> None:
    merged = merge_launches({"1": run(record("a"), record("b")), "2": run(record("b"), record("c"))})
    assert [(found.id, len(found.launches)) for found in merged.records] == [("a", 1), ("b", 2), ("c", 1)]


def test_a_failed_launch_leaves_a_warning_and_no_numbers() -> None:
    found = merge_records([record(status="out-of-memory"), record(x=0.2), record(x=0.4)])
    assert found.status == "ok"
    assert len(found.launches) == 2
    assert found.warnings == ("1 of 3 launches: out-of-memory: no memory",)
    first = replace(record(status="failed"), reason="the first")
    assert merge_records([first, record(status="invalid")]) == first


def test_a_counter_that_jitters_is_its_best_and_is_warned_of() -> None:
    found = merge_records([record(flops=12), record(flops=10), record(flops=12)])
    assert found.metrics["flops"].value == 10
    assert found.warnings == ("flops differs between launches: 12, 10",)
    first = Metric(1.0, "1", "higher", reason="of the first")
    assert merge_metrics([first, Metric(2.0, "1", "higher")]) == replace(first, value=2.0)
    assert merge_metrics([Metric(2.0, "1", "neither"), Metric(1.0, "1", "neither")]).value == 1.0


def test_a_metric_that_one_launch_could_not_read_is_that_of_the_others() -> None:
    missing = Metric(None, "J", noise="sampled", reason="no NVML")
    assert merge_metrics([missing, Metric(3.0, "J", noise="sampled")]) == Metric(3.0, "J", noise="sampled")
    assert merge_metrics([missing, missing]) == missing


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=30))
def test_a_timed_metric_is_the_median_within_its_interval(values: list[float]) -> None:
    found = merge_metrics([Metric(value, "s", noise="timed") for value in values])
    assert found.value == pytest.approx(median(values))
    assert found.low is not None
    assert found.high is not None
    assert min(values) <= found.low <= median(values) <= found.high <= max(values)


def test_runs_that_differ_are_refused_by_name() -> None:
    one = run(record())
    other = replace(run(record(), machine="n"), settings={"seed": 1})
    with pytest.raises(
        UserError, match=r"^a.json and b.json cannot be merged, since they differ: seed 0 and 1, cpu m and n$"
    ):
        merge_launches({"a.json": one, "b.json": other})
    with pytest.raises(UserError, match="no run"):
        merge_launches({})


def test_parts_are_joined_in_their_order_and_doubled_cases_refused() -> None:
    joined = join({"1": run(record("b")), "2": run(record("a"), record("c"))})
    assert [found.id for found in joined.records] == ["b", "a", "c"]
    with pytest.raises(UserError, match=r"^a case may be in one run only: a in 1 and 2; b in 1 and 3$"):
        join({"1": run(record("a"), record("b")), "2": run(record("a")), "3": run(record("b"))})
