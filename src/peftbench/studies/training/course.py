"""One training from the building of the model to what it yielded, on one task or on several at once."""

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
from peftbench.studies.training.loop import MAX_NORM, Fed, Learner, Plan, Trained, restore, train
from peftbench.studies.training.material import Material
from peftbench.studies.training.stopping import Goal, Rule
from peftbench.studies.training.work import StepWork, count_work
from peftbench.workloads.step import training_step

if TYPE_CHECKING:
    from peftbench.config.settings import Settings
    from peftbench.workloads.base import Workbench
    from peftbench.workloads.subject import Subject

EVALUATIONS_PER_EPOCH = 4


@dataclass(frozen=True)
class Course:
    """What is trained, on what, and for how long."""

    subject: Subject
    build: Callable[[], torch.nn.Module]
    """Makes the model that is trained, ready for it; called twice, since counting takes a model of its own."""
    materials: Mapping[str, Material]
    """By task."""
    batch_size: int
    seed: int
    plan: Plan
    group_by_length: bool = False
    """Whether examples of like length share a batch."""
    watched: Mapping[str, Material] = field(default_factory=dict)
    """Further tasks that are evaluated, and do not count in the quality."""
    unjudged: frozenset[str] = frozenset()
    """Tasks that are trained on, and do not count in the quality."""


@dataclass(frozen=True)
class Outcome:
    """A model that was trained, and what that took."""

    model: torch.nn.Module
    """With the weights of the best point, where those were kept."""
    trained: Trained
    peak_bytes: int
    """Weights, optimizer state and the most that a step of the longest sequences adds: exact, on any device."""
    tests: Mapping[str, float]
    """By task (of several) and name of the test set, the score that the task is judged by."""


def plan_for(settings: Settings, sizes: Mapping[str, int], batch_size: int, goal: Goal | None) -> Plan:
    """Return how long a training on so many examples of each task is."""
    epoch = sampling.steps_per_epoch(sizes, batch_size)
    rule = Rule(stop=settings.stop, patience_steps=math.ceil(settings.patience * epoch), target=goal)
    return Plan(
        total_steps=math.ceil(settings.epochs * epoch),
        eval_every=settings.eval_every or math.ceil(epoch / EVALUATIONS_PER_EPOCH),
        rule=rule,
    )


def follow(course: Course, bench: Workbench, *, keep_best: bool) -> Outcome:
    """Train.

    Everything that is random follows from the course's seed and the subject's; torch's own state is left as it was.
    """
    device = bench.backend.device
    with seeded(course.seed, device):
        works = _count(course)
    with seeded(course.seed, device), Nvml.of(device) as nvml:
        learner = new_learner(course)
        trained = train(
            learner,
            feed(course.materials, course.batch_size, course.seed, group_by_length=course.group_by_length),
            course.plan,
            lambda: judge(learner.model, course),
            clock=bench.clock,
            energy_j=nvml.energy_j,
            flops=lambda fed: works[fed.task].flops(fed.examples, fed.tokens),
            keep_best=keep_best or any(material.tests for material in course.materials.values()),
        )
        restore(learner.model, trained.best_weights)
        tests = _tests(learner.model, course)
    return Outcome(learner.model, trained, max(work.peak_bytes for work in works.values()), tests)


def feed(
    materials: Mapping[str, Material], batch_size: int, seed: int, *, group_by_length: bool = False
) -> Iterator[Fed]:
    """Yield the batches of epoch after epoch, each made when it is asked for."""
    lengths = {name: [*map(length, material.train)] for name, material in materials.items()}
    for draw in sampling.steps(lengths, batch_size, seed, group_by_length=group_by_length):
        material = materials[draw.task]
        features = [material.train[row] for row in draw.rows]
        yield Fed(draw.task, material.collate(features), len(features), max(map(length, features)))


def judge(model: torch.nn.Module, course: Course) -> tuple[float, dict[str, float]]:
    """Return the quality of a model on the validation sets, the mean over the judged tasks, and all scores."""
    judged = {name: material for name, material in course.materials.items() if name not in course.unjudged}
    seen = {**judged, **course.watched}
    if len(seen) == 1:
        (material,) = judged.values()
        scores = _scores(model, course, material, material.validation)
        return scores[material.metric], scores
    scores = {
        name: _scores(model, course, material, material.validation)[material.metric] for name, material in seen.items()
    }
    return fmean(scores[name] for name in judged), scores


def _tests(model: torch.nn.Module, course: Course) -> dict[str, float]:
    several = len(course.materials) > 1
    return {
        f"{name}@{examples.name}" if several else examples.name: _scores(model, course, material, examples)[
            material.metric
        ]
        for name, material in course.materials.items()
        for examples in material.tests
    }


def _scores(model: torch.nn.Module, course: Course, material: Material, examples: EvaluationSet) -> dict[str, float]:
    return evaluate(model, examples, collate=material.collate, precision=course.subject.precision)


def new_learner(course: Course) -> Learner:
    """Return a model that is ready to be trained."""
    model = course.build().train()
    optimizer = course.subject.optimizer(model)
    return Learner(model, optimizer, training_step(course.subject, model, optimizer, max_norm=MAX_NORM))


def _count(course: Course) -> dict[str, StepWork]:
    learner = new_learner(course)
    varies = course.subject.method.step_hook(learner.model) is not None
    return {
        name: count_work(learner, material, course.batch_size, varies=varies)
        for name, material in course.materials.items()
    }
