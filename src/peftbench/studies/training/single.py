"""Trains one method on one task, and returns metrics and curve for the record."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from peftbench.measure.counters.checkpoint_size import CheckpointSize, checkpoint_size
from peftbench.measure.counters.parameters import count_parameters
from peftbench.measure.energy.nvml import sampled
from peftbench.methods.base import Application, head_names
from peftbench.methods.optimization import Optimization
from peftbench.records.record import Metric
from peftbench.records.scratch import scratch_folder
from peftbench.studies.base import StudyFindings
from peftbench.studies.training.evaluate import LOSSES
from peftbench.studies.training.job import TrainedModel, TrainingJob, follow, plan_for
from peftbench.studies.training.task_data import TaskData
from peftbench.workloads.subject import Subject

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from peftbench.records.ids import Case
    from peftbench.workloads.backend import Backend
    from peftbench.workloads.base import Workbench


def job_of(case: Case, bench: Workbench, goal: float | None) -> TrainingJob:
    """Return the training of one method on one task, with the seed and the learning rate of the case."""
    settings, task_data = bench.backend.settings, task_data_of(bench, case.task)
    plan = plan_for(settings, {case.task: len(task_data.train)}, case.batch_size, goal)
    subject = subject_of(case, bench.backend, task_data, plan.total_steps)
    return TrainingJob(
        subject=subject,
        build=subject.applied_model,
        data_by_task={case.task: task_data},
        batch_size=case.batch_size,
        seed=case.seed,
        plan=plan,
        group_by_length=settings.group_by_length,
        max_norm=settings.clip or None,
    )


def train_once(case: Case, bench: Workbench, goal: float | None) -> StudyFindings:
    """Train one method on one task, with the seed and the learning rate of the case."""
    job = job_of(case, bench, goal)
    subject = job.subject
    outcome = follow(job, bench, keep_best=False)
    parameters = count_parameters(outcome.model, head_names(subject.fresh_model()))
    metrics = {
        **training_metrics(outcome),
        **{name: _score(name, value) for name, value in outcome.trained.best.scores.items()},
        "trainable_body": Metric(parameters.trainable_body, "1"),
        "trainable_head": Metric(parameters.trainable_head, "1"),
        "total_parameters": Metric(parameters.total, "1"),
        **saved_size(partial(subject.method.save, outcome.model)).metrics(),
    }
    return findings(outcome, metrics)


def task_data_of(bench: Workbench, task: str) -> TaskData:
    """Return a task's examples. They are encoded once for all cases of a group."""
    found: TaskData = bench.shared.setdefault("task_data", {}).get(task)
    if found is None:
        found = bench.shared["task_data"][task] = TaskData.load(bench.backend, task)
    return found


def subject_of(case: Case, backend: Backend, task_data: TaskData, total_steps: int) -> Subject:
    """Return the case's method on its task, to be trained for `total_steps` steps."""
    seed = case.seed

    def fresh_model() -> PreTrainedModel:
        return backend.new_model(task_data.task, seed, backend.device).to(backend.device)

    method = backend.definitions.method(case.method.name)
    asked = Optimization(case.learning_rate, backend.settings.weight_decay)
    return Subject(
        method=method,
        application=Application(
            task=task_data.task,
            overrides=dict(case.method.overrides),
            seed=seed,
            total_steps=total_steps,
            tokens=backend.seq_len(task_data.task) if backend.settings.pad_to_length else task_data.longest,
            positions=backend.positions,
            batches=task_data.first_batches(case.batch_size),
            packed=backend.settings.packing,
        ),
        batches=(),
        fresh_model=fresh_model,
        precision=backend.precision,
        execution=backend.execution,
        optimization=asked if backend.settings.is_asked("weight_decay") else method.trained_by(asked),
    )


def training_metrics(outcome: TrainedModel) -> dict[str, Metric]:
    """Return the quality of a training, and its cost from start to end, as metrics of a record."""
    trained = outcome.trained
    last = trained.curve[-1]
    return {
        "quality": score(trained.best.quality),
        "best_step": Metric(trained.best.step, "1", noise="sampled"),
        "steps": Metric(last.step, "1", noise="sampled"),
        "examples": Metric(last.examples, "1", noise="sampled"),
        "training_s": Metric(last.time_s, "s", noise="sampled"),
        "step_s": Metric(median(trained.step_s), "s", noise="sampled"),
        "training_flops": Metric(last.flops, "FLOP", noise="sampled"),
        "training_energy_j": sampled(trained.energy, "J", "lower"),
        "peak_bytes": Metric(outcome.peak_bytes, "B", noise="sampled"),
        **{f"quality@{name}": score(value) for name, value in outcome.tests.items()},
    }


def findings(outcome: TrainedModel, metrics: dict[str, Metric]) -> StudyFindings:
    """Return metrics and curve, with a warning if the loss was not finite."""
    trained = outcome.trained
    lost = next((point for point in trained.curve if point.loss is None), None)
    warnings = (f"the loss was not finite by step {lost.step}: the learning rate may be too high",) if lost else ()
    return StudyFindings(metrics, trained.curve, trained.stop, warnings)


def score(value: float) -> Metric:
    """Return the metric of a score between 0 and 1."""
    return Metric(value, "1", better="higher", noise="sampled")


def _score(name: str, value: float) -> Metric:
    return Metric(value, LOSSES[name], noise="sampled") if name in LOSSES else score(value)


def saved_size(save: Callable[[Path], object]) -> CheckpointSize:
    """Return the size of the files that `save` writes into a folder."""
    with scratch_folder() as folder:
        save(folder)
        return checkpoint_size(folder)
