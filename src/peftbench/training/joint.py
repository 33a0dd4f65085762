"""Trains one encoder on several tasks, or on one more, and says what came of it in the terms of a record."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import torch

from peftbench.methods.base import Application
from peftbench.record import Metric
from peftbench.training.course import Course, Outcome, follow, judge, plan_for
from peftbench.training.material import Material
from peftbench.training.multitask_model import MultiTaskModel, marked
from peftbench.training.results import FULL, full_quality, trainings
from peftbench.training.run import findings, material_of, saved_size, score, training_metrics
from peftbench.training.sampling import replayed
from peftbench.training.stopping import Target
from peftbench.workloads.base import Optimization, Subject
from peftbench.workloads.study import Findings

if TYPE_CHECKING:
    from peftbench.cases import Case
    from peftbench.workloads.study import Desk


def together(case: Case, desk: Desk) -> Findings:
    """Train one encoder on all tasks of the case."""
    materials = _materials(desk, case.tasks)
    outcome = follow(_course(case, desk, materials, partial(_fresh, desk, case, case.tasks)), desk, keep_best=False)
    metrics = {
        **training_metrics(outcome),
        **{f"quality@{task}": score(value) for task, value in outcome.trained.best.scores.items()},
        **_bytes(outcome, case.tasks),
    }
    return findings(outcome, metrics)


def added(case: Case, desk: Desk) -> Findings:
    """Add the last task of the case to an encoder that was trained on the others.

    The quality is that of the new task; forgetting is what the old ones lose, on average, up to its best moment.
    """
    *old, new = case.tasks
    base, before = _trained_on(tuple(old), case, desk)
    every = _materials(desk, case.tasks)
    share, seed = float(dict(case.variant)["replay"]), int(dict(case.variant)["seed"])
    again = {task: _replayed(every[task], share, seed) for task in old}
    again = {task: material for task, material in again.items() if material.train}
    build = partial(_extended, desk, case, base)
    course = _course(case, desk, {new: every[new], **again}, build, judged=[new])
    course = replace(course, watched={task: every[task] for task in old}, unjudged=frozenset(again))
    outcome = follow(course, desk, keep_best=False)
    after = outcome.trained.best.scores
    metrics = {
        **training_metrics(outcome),
        **{f"quality@{task}": score(value) for task, value in after.items()},
        "forgetting": Metric(fmean(before[task] - after[task] for task in old), "1", noise="sampled"),
        **_bytes(outcome, (new,)),
    }
    return findings(outcome, metrics)


def _trained_on(tasks: tuple[str, ...], case: Case, desk: Desk) -> tuple[MultiTaskModel, Mapping[str, float]]:
    """Return a model of the old tasks, at its best, and its scores; trained once for cases that differ in replay."""
    variant = dict(case.variant)
    key = ("multi-task model", tasks, variant["seed"], variant["lr"])
    if desk.shared.get("key") != key:
        course = _course(case, desk, _materials(desk, tasks), partial(_fresh, desk, case, tasks))
        model = follow(course, desk, keep_best=True).model
        scores = judge(model, course)[1] if len(tasks) > 1 else {tasks[0]: judge(model, course)[0]}
        desk.shared.update({"key": key, "model": model.cpu(), "scores": scores})
    return desk.shared["model"], desk.shared["scores"]


def _materials(desk: Desk, tasks: Sequence[str]) -> dict[str, Material]:
    """Return each task's examples, in batches that say of which task they are."""
    materials = {task: material_of(desk, task) for task in tasks}
    return {
        task: replace(material, collate=marked(material.collate, number))
        for number, (task, material) in enumerate(materials.items())
    }


def _replayed(material: Material, share: float, seed: int) -> Material:
    rows = replayed(len(material.train), share, seed)
    return replace(material, train=[material.train[row] for row in rows])


def _course(
    case: Case,
    desk: Desk,
    materials: Mapping[str, Material],
    build: Callable[[], torch.nn.Module],
    judged: Sequence[str] | None = None,
) -> Course:
    backend, variant = desk.backend, dict(case.variant)
    sizes = {task: len(material.train) for task, material in materials.items()}
    plan = plan_for(backend.settings, sizes, case.batch_size, _goals(case, desk, judged or list(materials)))
    first = next(iter(materials.values()))
    subject = Subject(
        method=backend.catalogue.method(FULL),
        application=Application(task=first.task, seed=int(variant["seed"]), total_steps=plan.total_steps),
        batches=(),
        fresh_model=build,
        precision=backend.settings.precision,
        compile=backend.settings.compile,
        optimization=Optimization(learning_rate=float(variant["lr"])),
    )
    return Course(
        subject=subject,
        build=build,
        materials=materials,
        batch_size=case.batch_size,
        seed=int(variant["seed"]),
        plan=plan,
        group_by_length=backend.settings.group_by_length,
    )


def _goals(case: Case, desk: Desk, tasks: Sequence[str]) -> dict[str, float] | None:
    """Return the target of each task, None where full fine-tuning of one of them would have to set it."""
    target, found = Target.read(desk.backend.settings.target), trainings(desk.records)
    goals = {task: target.quality(full_quality(found, f"{task}-bs{case.batch_size}")) for task in tasks}
    known = {task: goal for task, goal in goals.items() if goal is not None}
    return known if len(known) == len(goals) else None


def _fresh(desk: Desk, case: Case, tasks: Sequence[str]) -> MultiTaskModel:
    seed = int(dict(case.variant)["seed"])
    models = {task: desk.backend.new_model(material_of(desk, task).task, seed) for task in tasks}
    return MultiTaskModel(models).to(desk.backend.device)


def _extended(desk: Desk, case: Case, base: MultiTaskModel) -> MultiTaskModel:
    model = copy.deepcopy(base)
    new, seed = case.tasks[-1], int(dict(case.variant)["seed"])
    model.add(new, desk.backend.new_model(material_of(desk, new).task, seed))
    return model.to(desk.backend.device)


def _bytes(outcome: Outcome, tasks: Sequence[str]) -> dict[str, Metric]:
    """Return the size of the whole model on the disk, and of what belongs to the given tasks alone."""
    from safetensors.torch import save_model

    model = outcome.model
    assert isinstance(model, MultiTaskModel)  # noqa: S101 - as it was built

    def save(folder: Path) -> None:
        save_model(model, str(folder / "model.safetensors"))

    return {
        **saved_size(save).metrics(),
        "head_bytes": Metric(sum(model.head_bytes(task) for task in tasks), "B"),
    }
