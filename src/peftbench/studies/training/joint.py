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

from peftbench.config.target import Target
from peftbench.methods.base import Application
from peftbench.methods.optimization import Optimization
from peftbench.records.record import Metric
from peftbench.studies.base import Findings
from peftbench.studies.training.course import Course, Outcome, follow, judge, plan_for
from peftbench.studies.training.material import Material
from peftbench.studies.training.multitask_model import MultiTaskModel, marked
from peftbench.studies.training.results import FULL, full_quality, trainings
from peftbench.studies.training.run import findings, material_of, saved_bytes, score, training_metrics
from peftbench.studies.training.sampling import replayed
from peftbench.workloads.subject import Subject

if TYPE_CHECKING:
    from peftbench.records.ids import Case
    from peftbench.workloads.base import Workbench


def together(case: Case, bench: Workbench) -> Findings:
    """Train one encoder on all tasks of the case."""
    materials = _materials(bench, case.tasks)
    outcome = follow(_course(case, bench, materials, partial(_fresh, bench, case, case.tasks)), bench, keep_best=False)
    metrics = {
        **training_metrics(outcome),
        **{f"quality@{task}": score(value) for task, value in outcome.trained.best.scores.items()},
        **_bytes(outcome, case.tasks),
    }
    return findings(outcome, metrics)


def added(case: Case, bench: Workbench) -> Findings:
    """Add the last task of the case to an encoder that was trained on the others.

    The quality is that of the new task; forgetting is what the old ones lose, on average, up to its best moment.
    """
    *old, new = case.tasks
    base, before = _trained_on(tuple(old), case, bench)
    every = _materials(bench, case.tasks)
    share, seed = float(dict(case.variant)["replay"]), int(dict(case.variant)["seed"])
    again = {task: _replayed(every[task], share, seed) for task in old}
    again = {task: material for task, material in again.items() if material.train}
    build = partial(_extended, bench, case, base)
    course = _course(case, bench, {new: every[new], **again}, build, judged=[new])
    course = replace(course, watched={task: every[task] for task in old}, unjudged=frozenset(again))
    outcome = follow(course, bench, keep_best=False)
    after = outcome.trained.best.scores
    metrics = {
        **training_metrics(outcome),
        **{f"quality@{task}": score(value) for task, value in after.items()},
        "forgetting": Metric(fmean(before[task] - after[task] for task in old), "1", noise="sampled"),
        **_bytes(outcome, (new,)),
    }
    return findings(outcome, metrics)


def _trained_on(tasks: tuple[str, ...], case: Case, bench: Workbench) -> tuple[MultiTaskModel, Mapping[str, float]]:
    """Return a model of the old tasks, at its best, and its scores; trained once for cases that differ in replay."""
    variant = dict(case.variant)
    key = ("multi-task model", tasks, variant["seed"], variant["lr"])
    if bench.shared.get("key") != key:
        course = _course(case, bench, _materials(bench, tasks), partial(_fresh, bench, case, tasks))
        model = follow(course, bench, keep_best=True).model
        scores = judge(model, course)[1] if len(tasks) > 1 else {tasks[0]: judge(model, course)[0]}
        bench.shared.update({"key": key, "model": model.cpu(), "scores": scores})
    return bench.shared["model"], bench.shared["scores"]


def _materials(bench: Workbench, tasks: Sequence[str]) -> dict[str, Material]:
    """Return each task's examples, in batches that say of which task they are."""
    materials = {task: material_of(bench, task) for task in tasks}
    return {
        task: replace(material, collate=marked(material.collate, number))
        for number, (task, material) in enumerate(materials.items())
    }


def _replayed(material: Material, share: float, seed: int) -> Material:
    rows = replayed(len(material.train), share, seed)
    return replace(material, train=[material.train[row] for row in rows])


def _course(
    case: Case,
    bench: Workbench,
    materials: Mapping[str, Material],
    build: Callable[[], torch.nn.Module],
    judged: Sequence[str] | None = None,
) -> Course:
    backend, variant = bench.backend, dict(case.variant)
    sizes = {task: len(material.train) for task, material in materials.items()}
    plan = plan_for(backend.settings, sizes, case.batch_size, _goals(case, bench, judged or list(materials)))
    first = next(iter(materials.values()))
    subject = Subject(
        method=backend.definitions.method(FULL),
        application=Application(task=first.task, seed=int(variant["seed"]), total_steps=plan.total_steps),
        batches=(),
        fresh_model=build,
        precision=backend.precision,
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


def _goals(case: Case, bench: Workbench, tasks: Sequence[str]) -> dict[str, float] | None:
    """Return the target of each task, None where full fine-tuning of one of them would have to set it."""
    target, found = Target.read(bench.backend.settings.target), trainings(bench.records)
    goals = {task: target.quality(full_quality(found, f"{task}-bs{case.batch_size}")) for task in tasks}
    known = {task: goal for task, goal in goals.items() if goal is not None}
    return known if len(known) == len(goals) else None


def _fresh(bench: Workbench, case: Case, tasks: Sequence[str]) -> MultiTaskModel:
    seed = int(dict(case.variant)["seed"])
    models = {task: bench.backend.new_model(material_of(bench, task).task, seed) for task in tasks}
    return MultiTaskModel(models).to(bench.backend.device)


def _extended(bench: Workbench, case: Case, base: MultiTaskModel) -> MultiTaskModel:
    model = copy.deepcopy(base)
    new, seed = case.tasks[-1], int(dict(case.variant)["seed"])
    model.add(new, bench.backend.new_model(material_of(bench, new).task, seed))
    return model.to(bench.backend.device)


def _bytes(outcome: Outcome, tasks: Sequence[str]) -> dict[str, Metric]:
    """Return the size of the whole model on the disk, and of what belongs to the given tasks alone."""
    from safetensors.torch import save_model

    model = outcome.model
    assert isinstance(model, MultiTaskModel)  # noqa: S101 - as it was built

    def save(folder: Path) -> None:
        save_model(model, str(folder / "model.safetensors"))

    return {
        "checkpoint_bytes": Metric(saved_bytes(save), "B"),
        "head_bytes": Metric(sum(model.head_bytes(task) for task in tasks), "B"),
    }
