"""What becomes of a case when the device fails it, with errors and an allocator that stand in for a GPU's."""

from dataclasses import replace
from typing import Any

import pytest

from peftbench.backend import Backend
from peftbench.cases import Case, MethodSpec
from peftbench.catalogue import Catalogue
from peftbench.measure.failures import PoisonedError
from peftbench.measure.rounds import TimedRound
from peftbench.record import Record
from peftbench.runner import Runner
from peftbench.settings import Settings
from peftbench.workloads.base import Subject, Trial, Workload
from peftbench.workloads.step import Inference

CASE = Case(MethodSpec("head"), "nli", 1)
ASSERT = "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"


@pytest.fixture
def runner() -> Runner:
    catalogue = Catalogue.load()
    settings = Settings(model="tiny", device="cpu", rounds=1, seq_len=8)
    return Runner(Backend.open(settings, catalogue, [catalogue.task("nli")]), session="s")


def unobserved(timed: TimedRound) -> TimedRound:
    return timed


def measure(runner: Runner, workload: Workload) -> Record:
    return runner.measure(CASE, workload, id="inference[head-nli-bs1]", observer=unobserved)


def raise_assert(*_: object) -> Any:  # noqa: ANN401 - never returns
    raise RuntimeError(ASSERT)


class Failing(Inference):
    def trial(self, subject: Subject) -> Trial:
        return replace(super().trial(subject), run=raise_assert)


INFERENCE = Inference(name="inference", summary="")


def test_cleaning_up_does_not_hide_that_the_context_is_lost(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poisoned context raises its error again at each call, the next `synchronize` first of all."""
    measure(runner, INFERENCE)
    monkeypatch.setattr("peftbench.runner.release", raise_assert)
    with pytest.raises(PoisonedError, match="CUDA context lost in first step"):
        measure(runner, Failing(name="inference", summary=""))
    runner.close()


def test_an_error_that_shows_when_the_case_has_ended_is_poison_too(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(runner, INFERENCE)
    monkeypatch.setattr("peftbench.runner.release", raise_assert)
    with pytest.raises(PoisonedError, match="CUDA context lost in clean-up"):
        measure(runner, INFERENCE)
    runner.close()
