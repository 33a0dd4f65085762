from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pytest
from tests.records import a_record

from peftbench.config.settings import Settings
from peftbench.errors import UserError
from peftbench.matrix.catalogue import Catalogue
from peftbench.records.ids import Case
from peftbench.records.record import CurvePoint, Record
from peftbench.studies.base import StudyFindings
from peftbench.studies.training import single
from peftbench.studies.training.convergence import Convergence, pruned, require_full
from peftbench.studies.training.results import ADDING, trainings
from peftbench.workloads.base import Workbench

OpenBench = Callable[..., Workbench]
MakeCase = Callable[..., Case]


@pytest.fixture
def study(catalogue: Catalogue) -> Convergence:
    found = catalogue.workload("convergence")
    assert isinstance(found, Convergence)
    return found


def record(case: Case, quality: float, workload: str = "convergence") -> Record:
    return a_record(
        str(case.method),
        id=case.id,
        workload=workload,
        task=case.task,
        batch_size=case.batch_size,
        variant=dict(case.variant),
        curve=(CurvePoint(step=1, examples=8, time_s=1.0, quality=quality),),
    )


@pytest.mark.parametrize(
    ("target", "method", "goal"),
    [("50%", "full", None), ("50%", "lora", 0.4), ("0.7", "full", 0.7), ("0.7", "lora", 0.7)],
)
def test_a_share_of_full_fine_tunings_quality_is_no_goal_of_full_fine_tuning_itself(
    open_bench: OpenBench,
    training_case: MakeCase,
    study: Convergence,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    method: str,
    goal: float | None,
) -> None:
    goals: list[float | None] = []

    def train_once(case: Case, bench: Workbench, goal: float | None) -> StudyFindings:
        del case, bench
        goals.append(goal)
        return StudyFindings({})

    monkeypatch.setattr(single, "train_once", train_once)
    bench = replace(open_bench(target=target), records=[record(training_case(), 0.8)])
    study.conduct(training_case(method, seed=1), bench)
    assert goals == [goal]


def test_the_best_learning_rate_goes_on_to_further_seeds_for_each_share_that_is_replayed(
    training_case: MakeCase,
) -> None:
    settings = Settings(learning_rates=(1e-5, 1e-4, 1e-3))

    def added(seed: int, lr: float, replay: float) -> Case:
        return training_case("mtl", "nli+ner", seed=seed, lr=lr).with_variant(seed=seed, lr=lr, replay=replay)

    best = {0.0: 1e-3, 0.2: 1e-4}
    records = [
        record(added(0, lr, replay), 0.9 if lr == best[replay] else 0.5 + replay, ADDING)
        for replay in best
        for lr in settings.learning_rates
    ]
    found = trainings(records, ADDING)
    for replay, rate in best.items():
        assert [lr for lr in (1e-4, 1e-3) if not pruned(added(1, lr, replay), settings, found)] == [rate]


def test_a_training_that_was_measured_and_a_worse_rate_are_needless(
    training_case: MakeCase, study: Convergence
) -> None:
    settings = Settings(learning_rates=(1e-5, 1e-4, 1e-3))
    done = [record(training_case("lora", lr=lr), 0.5 + lr) for lr in settings.learning_rates]
    assert study.needless(training_case("lora", lr=1e-4), settings, iter(done)) == f"the same training as {done[1].id}"
    for case in (training_case("lora", lr=1e-2), training_case("ia3", lr=1e-4), training_case("lora", "ner", lr=1e-4)):
        assert study.needless(case, settings, iter(done)) == ""
    worse = study.needless(training_case("lora", seed=1, lr=1e-4), settings, iter(done))
    assert worse == "learning rate 0.001 was the best with seed 0"
    for lr in (1e-5, 1e-3):
        assert study.needless(training_case("lora", seed=1, lr=lr), settings, iter(done)) == ""


@pytest.mark.parametrize(
    ("stop", "target", "methods", "refused"),
    [
        ("target", "97%", ["lora"], True),
        ("target", "97%", ["lora", "full"], False),
        ("target", "0.8", ["lora"], False),
        ("patience", "97%", ["lora"], False),
    ],
)
def test_a_share_of_full_fine_tunings_quality_as_the_end_needs_full_fine_tuning(
    stop: str, target: str, methods: list[str], *, refused: bool
) -> None:
    settings = replace(Settings(), stop=stop, target=target)
    with pytest.raises(UserError, match="target=97% needs full fine-tuning: add") if refused else nullcontext():
        require_full(settings, methods)


def test_a_fusion_is_trained_over_trained_adapters_only(
    open_bench: OpenBench, training_case: MakeCase, study: Convergence
) -> None:
    backend = open_bench().backend
    for method in ("adapterfusion", "adapterfusion(adapters=2)"):
        assert "give adapterfusion(paths=...)" in study.unsupported_case(training_case(method), backend)
    assert not study.unsupported_case(training_case("adapterfusion(paths=a:b,adapters=2)"), backend)
    assert study.unsupported_case(training_case("mtl"), backend)
