"""Where the guard stands: around whatever a case is, and however it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from peftbench.config.settings import Settings
from peftbench.matrix.catalogue import Catalogue
from peftbench.measure.time.rounds import TimedRound
from peftbench.measure.trial import Mark, Trial
from peftbench.records.ids import Case, MethodSpec
from peftbench.records.record import Record
from peftbench.run.runner import Runner
from peftbench.studies.base import Study, StudyFindings
from peftbench.workloads.backend import Backend
from peftbench.workloads.base import Benchmark, Workbench
from peftbench.workloads.function import FunctionWorkload
from peftbench.workloads.step import Inference
from peftbench.workloads.subject import Subject

CASE = Case(MethodSpec("head"), "nli", 1)
TOLD = "changed torch's deterministic algorithms: on instead of off; put back after the case"
BATCH = "changed the batches: input_ids of batch 0, 1, 2"


@pytest.fixture
def runner() -> Iterator[Runner]:
    catalogue = Catalogue.load()
    settings = Settings(model="tiny", device="cpu", rounds=1, seq_len=8)
    made = Runner(Backend.open(settings, catalogue, [catalogue.task("nli")]), session="s")
    yield made
    made.close()
    assert not torch.are_deterministic_algorithms_enabled()


def unobserved(timed: TimedRound) -> TimedRound:
    return timed


def measure(runner: Runner, workload: Benchmark) -> Record:
    return runner.measure(CASE, workload, id="a case", observer=unobserved)


@dataclass(frozen=True, kw_only=True)
class Looking(Study):
    """A study that says whether deterministic algorithms are on, and switches them on."""

    raises: type[BaseException] | None = None

    def conduct(self, case: Case, bench: Workbench) -> StudyFindings:
        del case
        found = StudyFindings({}, stop=f"{torch.are_deterministic_algorithms_enabled()} {sorted(bench.shared)}")
        torch.use_deterministic_algorithms(mode=True)
        bench.shared["made"] = "under other rules"
        if self.raises is not None:
            raise self.raises
        return found


LOOKING = Looking(name="looking", summary="")


def test_a_study_is_told_of_and_leaves_nothing_to_the_next(runner: Runner) -> None:
    first, second = (measure(runner, LOOKING) for _ in range(2))
    assert first.warnings == second.warnings == (TOLD,)
    assert first.stop == second.stop == "False []"


def test_a_function_of_the_users_is_told_of(runner: Runner) -> None:
    def function(model: Any, batch: dict[str, torch.Tensor]) -> None:  # noqa: ANN401
        torch.use_deterministic_algorithms(mode=True)
        model(**batch)
        batch["input_ids"].fill_(0)

    record = measure(runner, FunctionWorkload.of(function))
    assert record.status == "ok"
    told, batches = record.warnings
    assert told == TOLD
    assert batches.startswith(BATCH)  # the fourth too, where the rounds were not yet as fast as they get


@pytest.mark.parametrize("raises", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_error_is_no_way_out(runner: Runner, raises: type[BaseException]) -> None:
    broken = replace(LOOKING, raises=raises)
    with pytest.raises(raises):
        measure(runner, broken)
    assert runner.failed(CASE, broken, raises("why"), id="a case").warnings == (TOLD,)
    assert measure(runner, LOOKING).stop == "False []"


def test_what_fails_before_it_begins_is_not_told_of_the_case_before(runner: Runner) -> None:
    class Broken(Looking):
        def unsupported_case(self, case: Case, backend: Backend) -> str:
            raise ValueError(case, backend)

    measure(runner, LOOKING)
    with pytest.raises(ValueError, match="Backend"):
        measure(runner, Broken(name="broken", summary=""))
    record = runner.failed(CASE, LOOKING, ValueError("why"), id="a case")
    assert (record.reason, record.warnings) == ("ValueError: why", ())


def test_a_case_that_is_only_tried_leaves_nothing_either(runner: Runner) -> None:
    for workload in (LOOKING, FunctionWorkload.of(lambda *_: torch.use_deterministic_algorithms(mode=True))):
        runner.try_once(CASE, workload)
        assert not torch.are_deterministic_algorithms_enabled()


def test_a_reference_that_was_built_meanwhile_is_built_anew(runner: Runner) -> None:
    """It lives as long as the group: another optimizer state, or weights that cannot be trained, would live with it."""
    built: list[bool] = []

    @dataclass(frozen=True, kw_only=True)
    class Counting(Inference):
        deed: Callable[[], object] = lambda: None

        def trial(self, subject: Subject) -> Trial:
            trial = super().trial(subject)

            def run(number: int, mark: Mark) -> None:
                self.deed()
                trial.run(number, mark)

            return replace(trial, run=run)

        def reference_trial(self, subject: Subject) -> Trial:
            built.append(torch.are_deterministic_algorithms_enabled())
            return Inference.trial(self, subject)

    plain = Counting(name="inference", summary="")
    doing = replace(plain, deed=lambda: torch.use_deterministic_algorithms(mode=True))
    for workload in (plain, plain, doing, doing, plain):
        measure(runner, workload)
    assert built == [False, True, True, False]


def test_nothing_is_told_of_what_peftbench_does_itself(runner: Runner) -> None:
    for workload in Catalogue.load().workloads.values():
        if not isinstance(workload, Study) and CASE in workload.expand([CASE], runner.backend.settings):
            assert measure(runner, workload).warnings == (), workload.name
