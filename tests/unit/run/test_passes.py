"""Which round the passes look at, and how many they take."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from peftbench.config.settings import Settings
from peftbench.matrix.cases import parse_method
from peftbench.matrix.catalogue import Catalogue
from peftbench.measure.time.rounds import CONTROL_ROUNDS, RoundPlan, Rounds, TimedRound, interleave
from peftbench.records.ids import Case
from peftbench.records.record import Record
from peftbench.run.passes import Take
from peftbench.run.runner import Runner
from peftbench.workloads.backend import Backend

Measure = Callable[..., Record]


@pytest.fixture
def measure() -> Measure:
    """Measures a training step of a method on the smallest preset."""
    catalogue = Catalogue.load()

    def measured(method: str, take: Take = interleave, **settings: object) -> Record:
        chosen = {"model": "tiny", "device": "cpu", "seq_len": 8, "reference": "none", "rounds": 1}
        runner = Runner(
            Backend.open(Settings(**{**chosen, **settings}), catalogue, [catalogue.task("nli")]),  # type: ignore[arg-type]
            session="s",
        )
        runner.take_rounds_by(take)
        case = Case(parse_method(method), "nli", 1)
        record = runner.measure(case, catalogue.workload("train_step"), id="case", observer=lambda timed: timed)
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
    for seed in (0, 1, 2):
        assert counted(measure("adapterdrop", seed=seed)) == counted(measure("adapterdrop(max_dropped=0)", seed=seed))


def test_the_gradients_of_a_step_are_seen_on_a_cpu_too(measure: Measure) -> None:
    metrics = measure("lora").metrics
    trained = [metrics[name].value or 0 for name in ("trainable_body", "trainable_head")]
    assert metrics["gradients_bytes"].value == 4 * sum(trained)


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
