"""One training on one task or on several at once, from building the model to its scores on the test sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

import torch

from peftbench.devices.seeding import seeded
from peftbench.measure.energy.nvml import Nvml
from peftbench.studies.training import sampling
from peftbench.studies.training.evaluate import EvaluationSet, evaluate, length
from peftbench.studies.training.loop import Learner, StepInput, Trained, TrainingPlan, restore, train
from peftbench.studies.training.schedule import Schedule
from peftbench.studies.training.stopping import Goal, StoppingRule
from peftbench.studies.training.task_data import TaskData
from peftbench.studies.training.work import StepWork, count_work
from peftbench.workloads.step import training_step

if TYPE_CHECKING:
    from peftbench.config.settings import Settings
    from peftbench.workloads.base import Workbench
    from peftbench.workloads.subject import Subject

EVALUATIONS_PER_EPOCH = 4


@dataclass(frozen=True)
class TrainingJob:
    """The model, the data and the plan of one training."""

    subject: Subject
    build: Callable[[], torch.nn.Module]
    """Builds the model to train. It is called twice, since counting FLOPs takes a model of its own."""
    data_by_task: Mapping[str, TaskData]
    batch_size: int
    seed: int
    plan: TrainingPlan
    group_by_length: bool = False
    """Whether examples of similar length share a batch."""
    max_norm: float | None = 1.0
    """Norm to which all gradients together are clipped; None: they are not."""
    watched: Mapping[str, TaskData] = field(default_factory=dict)
    """Further tasks that are evaluated, but are no part of the quality."""
    unjudged: frozenset[str] = frozenset()
    """Tasks that are trained on, but are no part of the quality."""


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, and the cost of its training."""

    model: torch.nn.Module
    """The model with the weights of the best point, if they were kept, else with those of the last step."""
    trained: Trained
    peak_bytes: int
    """Weights, gradients, optimizer state and the largest peak that a step adds: exact, on any device."""
    tests: Mapping[str, float]
    """The quality on each test set, by its name; if there are several tasks, by `task@name`."""


def plan_for(settings: Settings, sizes: Mapping[str, int], batch_size: int, goal: Goal | None) -> TrainingPlan:
    """Return the plan of a training, given the number of examples of each task."""
    epoch = sampling.steps_per_epoch(sizes, batch_size)
    rule = StoppingRule(stop=settings.stop, patience_steps=math.ceil(settings.patience * epoch), target=goal)
    return TrainingPlan(
        total_steps=settings.steps or math.ceil(settings.epochs * epoch),
        eval_every=settings.eval_every or math.ceil(epoch / EVALUATIONS_PER_EPOCH),
        rule=rule,
        schedule=Schedule.of(settings),
    )


def follow(job: TrainingJob, bench: Workbench, *, keep_best: bool) -> TrainedModel:
    """Count the work of a step on each task, train, and score the model on the test sets.

    All randomness follows from the seeds of job and subject. The state of torch's generators is put back.
    """
    device = bench.backend.device
    with seeded(job.seed, device):
        works = _count(job)
    with seeded(job.seed, device), Nvml.of(device) as nvml:
        learner = new_learner(job)
        trained = train(
            learner,
            feed(job.data_by_task, job.batch_size, job.seed, group_by_length=job.group_by_length),
            job.plan,
            lambda: judge(learner.model, job),
            clock=bench.clock,
            energy_j=nvml.energy_j,
            flops=lambda step_input: works[step_input.task].flops(step_input.examples, step_input.tokens),
            keep_best=keep_best or any(task_data.tests for task_data in job.data_by_task.values()),
        )
        restore(learner.model, trained.best_weights)
        tests = _tests(learner.model, job)
    return TrainedModel(learner.model, trained, max(work.peak_bytes for work in works.values()), tests)


def feed(
    data_by_task: Mapping[str, TaskData], batch_size: int, seed: int, *, group_by_length: bool = False
) -> Iterator[StepInput]:
    """Yield the batches of epoch after epoch, without end. A batch is made when it is asked for."""
    lengths = {name: [*map(length, task_data.train)] for name, task_data in data_by_task.items()}
    for draw in sampling.steps(lengths, batch_size, seed, group_by_length=group_by_length):
        task_data = data_by_task[draw.task]
        features = [task_data.train[row] for row in draw.rows]
        batch = task_data.collate(features)
        yield StepInput(draw.task, batch, len(features), batch["input_ids"].shape[-1])


def judge(model: torch.nn.Module, job: TrainingJob) -> tuple[float, dict[str, float]]:
    """Return the quality of a model on the validation sets (the mean over the judged tasks), and its scores.

    The scores are by name if one task is evaluated. If there are several, they are the quality of each task, by task.
    """
    judged = {name: task_data for name, task_data in job.data_by_task.items() if name not in job.unjudged}
    seen = {**judged, **job.watched}
    if len(seen) == 1:
        (task_data,) = judged.values()
        scores = _scores(model, job, task_data, task_data.validation)
        return scores[task_data.metric], scores
    scores = {
        name: _scores(model, job, task_data, task_data.validation)[task_data.metric] for name, task_data in seen.items()
    }
    return fmean(scores[name] for name in judged), scores


def _tests(model: torch.nn.Module, job: TrainingJob) -> dict[str, float]:
    several = len(job.data_by_task) > 1
    return {
        f"{name}@{examples.name}" if several else examples.name: _scores(model, job, task_data, examples)[
            task_data.metric
        ]
        for name, task_data in job.data_by_task.items()
        for examples in task_data.tests
    }


def _scores(model: torch.nn.Module, job: TrainingJob, task_data: TaskData, examples: EvaluationSet) -> dict[str, float]:
    return evaluate(model, examples, collate=task_data.collate, precision=job.subject.precision)


def new_learner(job: TrainingJob) -> Learner:
    """Return a new model in training mode, with its optimizer and its step."""
    model = job.build().train()
    optimizer = job.subject.optimizer(model)
    return Learner(model, optimizer, training_step(job.subject, model, optimizer, max_norm=job.max_norm))


def _count(job: TrainingJob) -> dict[str, StepWork]:
    learner = new_learner(job)
    varies = job.subject.method.step_hook(learner.model) is not None
    return {
        name: count_work(learner, task_data, job.batch_size, varies=varies)
        for name, task_data in job.data_by_task.items()
    }
