from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from peftbench.cases import Case
from peftbench.catalogue import Catalogue
from peftbench.record import CurvePoint, Record
from peftbench.training import run
from peftbench.training.convergence import Convergence, pruned
from peftbench.workloads.study import Desk, Findings

OpenDesk = Callable[..., Desk]
MakeCase = Callable[..., Case]


@pytest.fixture
def study(catalogue: Catalogue) -> Convergence:
    found = catalogue.workload("convergence")
    assert isinstance(found, Convergence)
    return found


def record(case: Case, quality: float, workload: str = "convergence") -> Record:
    return Record(
        id=case.id,
        workload=workload,
        method=str(case.method),
        task=case.task,
        batch_size=case.batch_size,
        seq_len=32,
        status="ok",
        variant=dict(case.variant),
        curve=(CurvePoint(step=1, examples=8, time_s=1.0, quality=quality),),
    )


@pytest.mark.parametrize(
    ("target", "method", "goal"), [("50%", "full", None), ("50%", "lora", 0.4), ("0.7", "full", 0.7), ("0.7", "lora", 0.7)]
)
def test_a_share_of_full_fine_tunings_quality_is_no_goal_of_full_fine_tuning_itself(
    open_desk: OpenDesk,
    training_case: MakeCase,
    study: Convergence,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    method: str,
    goal: float | None,
) -> None:
    goals: list[float | None] = []

    def single(case: Case, desk: Desk, goal: float | None) -> Findings:
        del case, desk
        goals.append(goal)
        return Findings({})

    monkeypatch.setattr(run, "single", single)
    desk = replace(open_desk(target=target), records=[record(training_case(), 0.8)])
    study.conduct(training_case(method, seed=1), desk)
    assert goals == [goal]
