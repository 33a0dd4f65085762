"""Which round the passes look at, and how many they take."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping

import pytest
import torch

from peftbench.config.settings import Settings
from peftbench.devices.execution import Execution
from peftbench.devices.graphs import CapturedGraph
from peftbench.matrix.cases import parse_method
from peftbench.matrix.catalogue import Catalogue
from peftbench.measure.counters.dispatch import LONGEST
from peftbench.measure.time.rounds import CONTROL_ROUNDS, RoundPlan, Rounds, TimedRound, interleave
from peftbench.records.ids import Case
from peftbench.records.joining import merge_records
from peftbench.records.record import Record, record_to_json
from peftbench.run.passes import EAGER_COUNTERS, Take
from peftbench.run.runner import Runner
from peftbench.workloads.backend import Backend

Measure = Callable[..., Record]


@pytest.fixture
def measure() -> Measure:
    """Measures a training step of a method on the smallest preset."""
    catalogue = Catalogue.load()

    def measured(method: str, take: Take = interleave, *, only_time: bool = False, **settings: object) -> Record:
        chosen = {"model": "tiny", "device": "cpu", "seq_len": 8, "reference": "none", "rounds": 1}
        runner = Runner(
            Backend.open(Settings(**{**chosen, **settings}), catalogue, [catalogue.task("nli")]),  # type: ignore[arg-type]
            session="s",
        )
        runner.take_rounds_by(take)
        case = Case(parse_method(method), "nli", 1)
        record = runner.measure(
            case, catalogue.workload("train_step"), id="case", observer=lambda timed: timed, only_time=only_time
        )
        runner.close()
        assert record.status == "ok"
        return record

    return measured


def counted(record: Record) -> Mapping[str, float | None]:
    names = ("flops", "operator_calls", "saved_bytes", "peak_bytes", "allocations", "gradients_bytes")
    return {name: record.metrics[name].value for name in names}


def test_the_counters_of_adalora_are_of_a_step_that_masks_ranks(measure: Measure) -> None:
    """Its step 0 does not yet, and all others do."""
    assert measure("adalora").operators["aten::kthvalue"] > 0


def test_the_counters_of_adapterdrop_are_of_a_step_that_drops_nothing(measure: Measure) -> None:
    """They do not hang on what the seed draws."""
    dropping_none = counted(measure("adapterdrop(max_dropped=0)"))
    for seed in (0, 1, 2):
        assert counted(measure("adapterdrop", seed=seed)) == dropping_none


def test_the_gradients_of_a_step_are_seen_on_a_cpu_too(measure: Measure) -> None:
    metrics = measure("lora").metrics
    trained = [metrics[name].value or 0 for name in ("trainable_body", "trainable_head")]
    assert metrics["gradients_bytes"].value == 4 * sum(trained)


def test_the_operators_that_took_longest_are_told_with_their_calls(measure: Measure) -> None:
    record = measure("lora")
    longest = record.longest_operators or ()
    assert len(longest) == LONGEST
    assert all(record.operators[one.name] == one.calls for one in longest)
    assert [one.share for one in longest] == sorted((one.share for one in longest), reverse=True)
    assert 0 < longest[0].share < 1
    assert "longest_operators" not in record_to_json(measure("lora", only_time=True))


def test_a_budget_of_nothing_is_a_budget(measure: Measure) -> None:
    record = measure("head", rounds=None, max_time=0.0)
    assert record.stop == "budget"
    assert record.launches[0].rounds == CONTROL_ROUNDS


def test_a_launch_with_a_reference_has_an_anchor(measure: Measure) -> None:
    (alone,), (beside,) = measure("head").launches, measure("head", reference="full").launches
    assert alone.anchor_s is None
    assert beside.anchor_s is not None
    assert beside.anchor_s > 0


def test_the_order_of_rounds_hangs_on_the_seed_and_the_case(measure: Measure) -> None:
    seeds: list[str] = []

    def take(case: TimedRound, reference: TimedRound | None, plan: RoundPlan, *, seed: str) -> Rounds:
        seeds.append(seed)
        return interleave(case, reference, plan, seed=seed)

    for seed in (0, 1):
        measure("head", take, seed=seed)
    assert seeds == ["0 case", "1 case"]


def test_a_replayed_round_counts_the_eager_one_and_says_what_its_graph_took(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a capture that calls the function again at each replay, since no GPU is needed for the rest."""
    captures: list[Callable[[], object]] = []

    def capture(body: Callable[[], object], device: torch.device) -> CapturedGraph:
        assert device.type == "cpu"
        captures.append(body)
        return CapturedGraph(replay=body, reset=lambda: captures.remove(body), capture_s=0.25, pool_bytes=4096)

    plain = measure("lora", reference="base", rounds=3)
    monkeypatch.setattr("peftbench.workloads.replay.capture", capture)
    monkeypatch.setattr(Execution, "require", lambda *_: None)
    record = measure("lora", reference="base", rounds=3, execution="graph")
    assert captures == []  # both graphs, of case and reference, were freed
    assert (record.metrics["capture_s"].value, record.metrics["graph_bytes"].value) == (0.25, 4096)
    assert "forward_s" in plain.metrics
    assert "forward_s" not in record.metrics
    assert "ratio" in record.metrics
    assert EAGER_COUNTERS in record.warnings
    assert record.operators == plain.operators
    assert counted(record) == counted(plain)


@pytest.mark.parametrize(
    ("method", "reason"), [("adalora", "each step of the method"), ("lora-fa", "optimizer is not capturable")]
)
def test_what_a_graph_cannot_repeat_is_a_row(method: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Execution, "require", lambda *_: None)
    catalogue = Catalogue.load()
    settings = Settings(model="tiny", device="cpu", seq_len=8, execution="graph")
    runner = Runner(Backend.open(settings, catalogue, [catalogue.task("nli")]), session="s")
    case = Case(parse_method(method), "nli", 1)
    for workload, reasons in (("train_step", reason), ("convergence", "one shape, and batches of a study differ")):
        record = runner.measure(case, catalogue.workload(workload), id="case", observer=lambda timed: timed)
        assert record.status == "unsupported"
        assert reasons in record.reason
    runner.close()


def test_only_the_time_is_taken_where_a_case_is_proven_and_counted(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure("lora", reference="base", rounds=3)
    for needless in ("run.proofs.validity.check", "run.passes.counters.count", "measure.probes.round_parts"):
        monkeypatch.setattr(f"peftbench.{needless}", None)
    timed = measure("lora", reference="base", rounds=3, only_time=True)
    assert all(metric.noise == "timed" for metric in timed.metrics.values())
    assert timed.metrics.keys() == {name for name, metric in whole.metrics.items() if metric.noise == "timed"}
    assert (timed.operators, timed.operator_hash, timed.modules) == ({}, "", {})
    (launch,) = timed.launches
    assert launch.x is not None
    assert launch.anchor_s is not None
    together = merge_records([whole, timed])
    assert {name: metric for name, metric in together.metrics.items() if metric.noise == "exact"} == {
        name: metric for name, metric in whole.metrics.items() if metric.noise == "exact"
    }
    assert (together.operators, together.modules, together.warnings) == (whole.operators, whole.modules, ())
    assert len(together.launches) == 2


def test_no_garbage_is_collected_within_rounds(measure: Measure) -> None:
    collecting: list[bool] = []

    def take(case: TimedRound, reference: TimedRound | None, plan: RoundPlan, *, seed: str) -> Rounds:
        collecting.append(gc.isenabled())
        return interleave(case, reference, plan, seed=seed)

    measure("head", take)
    assert (collecting, gc.isenabled()) == ([False], True)
