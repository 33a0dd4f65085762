"""Trains one encoder on several tasks, or adds one task to it, and returns metrics and curve for the record."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import torch

from peftbench.config.target import QualityTarget
from peftbench.methods.base import Application
from peftbench.methods.optimization import Optimization
from peftbench.records.ids import group_name
from peftbench.records.record import Metric
from peftbench.studies.base import StudyFindings
from peftbench.studies.training.job import TrainedModel, TrainingJob, follow, judge, plan_for
from peftbench.studies.training.multitask_model import MultiTaskModel, marked
from peftbench.studies.training.results import FULL, full_quality, trainings
from peftbench.studies.training.sampling import replayed
from peftbench.studies.training.single import findings, saved_size, score, task_data_of, training_metrics
from peftbench.studies.training.task_data import TaskData
from peftbench.workloads.subject import Subject

if TYPE_CHECKING:
    from peftbench.config.settings import Settings
    from peftbench.records.ids import Case
    from peftbench.workloads.base import Workbench


def together(case: Case, bench: Workbench) -> StudyFindings:
    """Train one encoder on all tasks of the case."""
    data_by_task = _data_by_task(bench, case.tasks)
    outcome = follow(_job(case, bench, data_by_task, partial(_fresh, bench, case, case.tasks)), bench, keep_best=False)
    metrics = {
        **training_metrics(outcome),
        **{f"quality@{task}": score(value) for task, value in outcome.trained.best.scores.items()},
        **_bytes(outcome, case.tasks),
    }
    return findings(outcome, metrics)


def added(case: Case, bench: Workbench) -> StudyFindings:
    """Add the last task of the case to an encoder that was trained on the others.

    The quality is that of the new task. Forgetting is the mean loss of score of the old tasks, from before the training
    to the point at which the new task is best.
    """
    *old, new = case.tasks
    base, before = _trained_on(tuple(old), case, bench)
    every = _data_by_task(bench, case.tasks)
    share, seed = float(case.varied("replay")), case.seed
    again = {task: _replayed(every[task], share, seed) for task in old}
    again = {task: task_data for task, task_data in again.items() if task_data.train}
    build = partial(_extended, bench, case, base)
    job = _job(case, bench, {new: every[new], **again}, build, judged=[new])
    job = replace(job, watched={task: every[task] for task in old}, unjudged=frozenset(again))
    outcome = follow(job, bench, keep_best=False)
    after = outcome.trained.best.scores
    metrics = {
        **training_metrics(outcome),
        **{f"quality@{task}": score(value) for task, value in after.items()},
        "forgetting": Metric(fmean(before[task] - after[task] for task in old), "1", noise="sampled"),
        **_bytes(outcome, (new,)),
    }
    return findings(outcome, metrics)


def _trained_on(tasks: tuple[str, ...], case: Case, bench: Workbench) -> tuple[MultiTaskModel, Mapping[str, float]]:
    """Return a model of the old tasks with its best weights, and its scores.

    Cases that differ in replay alone share one training.
    """
    key = ("multi-task model", tasks, case.seed, case.learning_rate)
    if bench.shared.get("key") != key:
        job = _job(case, bench, _data_by_task(bench, tasks), partial(_fresh, bench, case, tasks))
        model = follow(job, bench, keep_best=True).model
        scores = judge(model, job)[1] if len(tasks) > 1 else {tasks[0]: judge(model, job)[0]}
        bench.shared.update({"key": key, "model": model.cpu(), "scores": scores})
    return bench.shared["model"], bench.shared["scores"]


def _data_by_task(bench: Workbench, tasks: Sequence[str]) -> dict[str, TaskData]:
    """Return each task's examples. Their batches carry the number of the task."""
    data_by_task = {task: task_data_of(bench, task) for task in tasks}
    return {
        task: replace(task_data, collate=marked(task_data.collate, number))
        for number, (task, task_data) in enumerate(data_by_task.items())
    }


def _replayed(task_data: TaskData, share: float, seed: int) -> TaskData:
    rows = replayed(len(task_data.train), share, seed)
    return replace(task_data, train=[task_data.train[row] for row in rows])


def _job(
    case: Case,
    bench: Workbench,
    data_by_task: Mapping[str, TaskData],
    build: Callable[[], torch.nn.Module],
    judged: Sequence[str] | None = None,
) -> TrainingJob:
    backend = bench.backend
    settings = for_several(backend.settings)
    sizes = {task: len(task_data.train) for task, task_data in data_by_task.items()}
    plan = plan_for(settings, sizes, case.batch_size, _goals(case, bench, judged or list(data_by_task)))
    first = next(iter(data_by_task.values()))
    subject = Subject(
        method=backend.definitions.method(FULL),
        application=Application(task=first.task, seed=case.seed, total_steps=plan.total_steps),
        batches=(),
        fresh_model=build,
        precision=backend.precision,
        execution=backend.execution,
        optimization=Optimization(case.learning_rate, settings.weight_decay),
    )
    return TrainingJob(
        subject=subject,
        build=build,
        data_by_task=data_by_task,
        batch_size=case.batch_size,
        seed=case.seed,
        plan=plan,
        group_by_length=settings.group_by_length,
        max_norm=settings.clip or None,
    )


def for_several(settings: Settings) -> Settings:
    """Return the settings of a training on several tasks."""
    own = {name: getattr(settings, f"multitask_{name}") for name in ("epochs", "warm_up", "weight_decay")}
    return replace(settings, **{name: value for name, value in own.items() if value is not None})


def _goals(case: Case, bench: Workbench, tasks: Sequence[str]) -> dict[str, float] | None:
    """Return the target of each task; None if one of them depends on full fine-tuning, which was not measured."""
    target, found = QualityTarget.read(bench.backend.settings.target), trainings(bench.records)
    goals = {task: target.quality(full_quality(found, group_name(task, case.batch_size))) for task in tasks}
    known = {task: goal for task, goal in goals.items() if goal is not None}
    return known if len(known) == len(goals) else None


def _fresh(bench: Workbench, case: Case, tasks: Sequence[str]) -> MultiTaskModel:
    seed = case.seed
    models = {task: bench.backend.new_model(task_data_of(bench, task).task, seed) for task in tasks}
    return MultiTaskModel(models).to(bench.backend.device)


def _extended(bench: Workbench, case: Case, base: MultiTaskModel) -> MultiTaskModel:
    model = copy.deepcopy(base)
    new, seed = case.tasks[-1], case.seed
    model.add(new, bench.backend.new_model(task_data_of(bench, new).task, seed))
    return model.to(bench.backend.device)


def _bytes(outcome: TrainedModel, tasks: Sequence[str]) -> dict[str, Metric]:
    """Return the size of the whole model on the disk, and the bytes of the weights that only the given tasks use."""
    from safetensors.torch import save_model

    model = outcome.model
    assert isinstance(model, MultiTaskModel)  # noqa: S101 - `_fresh` and `_extended` build no other

    def save(folder: Path) -> None:
        save_model(model, str(folder / "model.safetensors"))

    return {
        **saved_size(save).metrics(),
        "head_bytes": Metric(sum(model.head_bytes(task) for task in tasks), "B"),
    }
