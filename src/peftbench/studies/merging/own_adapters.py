"""The adapters that are merged: one training for each task, at the learning rate that suits it best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftbench.methods.peft.combining import AdapterParts, parts_of
from peftbench.records.ids import Case
from peftbench.studies.training.job import follow
from peftbench.studies.training.results import MERGING
from peftbench.studies.training.single import job_of

if TYPE_CHECKING:
    from peftbench.records.record import Record
    from peftbench.workloads.base import Workbench
    from peftbench.workloads.subject import Subject


@dataclass(frozen=True, slots=True)
class OwnAdapter:
    """The adapter of one task, trained on it alone."""

    task: str
    subject: Subject
    """Makes fresh models of the task."""
    parts: AdapterParts
    quality: float
    """At the best point of its training."""
    lr: float
    training_s: float
    """Seconds of the steps, of this training alone."""


def own_adapters(case: Case, bench: Workbench) -> tuple[OwnAdapter, ...]:
    """Return the adapter of each task of the case. Cases that differ in the way to merge share the trainings."""
    key = ("own adapters", str(case.method), case.group, case.seed)
    if bench.shared.get("own adapters key") != key:
        found = tuple(_own(case, bench, task) for task in case.tasks)
        bench.shared.update({"own adapters key": key, "own adapters": found})
    adapters: tuple[OwnAdapter, ...] = bench.shared["own adapters"]
    return adapters


def rate_metric(task: str) -> str:
    """Return the name of the metric that holds the learning rate of a task's own adapter."""
    return f"lr@{task}"


def rates(case: Case, task: str, asked: Sequence[float], records: Sequence[Record]) -> list[float]:
    """Return the learning rates to try: those that were asked for, or the one that an earlier case found to be best."""
    for record in records:
        if (record.workload, record.method, record.group) == (MERGING, str(case.method), case.group):
            metric = record.metrics.get(rate_metric(task))
            if metric is not None and metric.value is not None:
                return [metric.value]
    return list(dict.fromkeys(asked))


def _own(case: Case, bench: Workbench, task: str) -> OwnAdapter:
    tried = rates(case, task, bench.backend.settings.learning_rates, bench.records)
    found = [_trained(Case(case.method, task, case.batch_size), bench, case.seed, lr) for lr in tried]
    return max(found, key=lambda one: (one.quality, -one.lr))


def _trained(alone: Case, bench: Workbench, seed: int, lr: float) -> OwnAdapter:
    job = job_of(alone.with_variant(seed=seed, lr=lr), bench, None)
    outcome = follow(job, bench, keep_best=True)
    trained = outcome.trained
    parts = parts_of(outcome.model, job.subject.fresh_model())
    return OwnAdapter(alone.task, job.subject, parts, trained.best.quality, lr, trained.curve[-1].time_s)
