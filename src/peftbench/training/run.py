"""Trains one method on one task, and says what came of it in the terms of a record."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from peftbench.measure.checkpoint_size import CheckpointSize, checkpoint_size
from peftbench.measure.nvml import sampled
from peftbench.measure.parameters import count_parameters
from peftbench.methods.base import Application, head_names
from peftbench.record import Metric
from peftbench.training.course import Course, Outcome, follow, plan_for
from peftbench.training.material import Material
from peftbench.workloads.base import Optimization, Subject
from peftbench.workloads.study import Findings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from peftbench.backend import Backend
    from peftbench.cases import Case
    from peftbench.workloads.study import Desk


def single(case: Case, desk: Desk, goal: float | None) -> Findings:
    """Train one method on one task, from the case's seed and at its learning rate."""
    material = material_of(desk, case.task)
    materials = {case.task: material}
    plan = plan_for(desk.backend.settings, {case.task: len(material.train)}, case.batch_size, goal)
    subject = subject_of(case, desk.backend, material, plan.total_steps)
    seed = int(dict(case.variant)["seed"])
    course = Course(
        subject=subject,
        build=subject.applied_model,
        materials=materials,
        batch_size=case.batch_size,
        seed=seed,
        plan=plan,
        group_by_length=desk.backend.settings.group_by_length,
    )
    outcome = follow(course, desk, keep_best=False)
    parameters = count_parameters(outcome.model, head_names(subject.fresh_model()))
    metrics = {
        **training_metrics(outcome),
        **{name: score(value) for name, value in outcome.trained.best.scores.items()},
        "trainable_body": Metric(parameters.trainable_body, "1"),
        "trainable_head": Metric(parameters.trainable_head, "1"),
        "total_parameters": Metric(parameters.total, "1"),
        **saved_size(partial(subject.method.save, outcome.model)).metrics(),
    }
    return findings(outcome, metrics)


def material_of(desk: Desk, task: str) -> Material:
    """Return a task's examples, encoded once for all cases of a group."""
    found: Material = desk.shared.setdefault("materials", {}).get(task)
    if found is None:
        found = desk.shared["materials"][task] = Material.load(desk.backend, task)
    return found


def subject_of(case: Case, backend: Backend, material: Material, total_steps: int) -> Subject:
    """Return the case's method on its task, to be trained for so many steps."""
    variant = dict(case.variant)
    seed = int(variant["seed"])

    def fresh_model() -> PreTrainedModel:
        return backend.new_model(material.task, seed).to(backend.device)

    return Subject(
        method=backend.catalogue.method(case.method.name),
        application=Application(
            task=material.task, overrides=dict(case.method.overrides), seed=seed, total_steps=total_steps
        ),
        batches=(),
        fresh_model=fresh_model,
        precision=backend.settings.precision,
        compile=backend.settings.compile,
        optimization=Optimization(learning_rate=float(variant["lr"])),
    )


def training_metrics(outcome: Outcome) -> dict[str, Metric]:
    """Return what a training reached, and what it cost from its start to its end."""
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


def findings(outcome: Outcome, metrics: dict[str, Metric]) -> Findings:
    """Return metrics and curve, with a warning where the loss was no number."""
    trained = outcome.trained
    lost = next((point for point in trained.curve if point.loss is None), None)
    warnings = (f"the loss was no number by step {lost.step}: the learning rate may be too high",) if lost else ()
    return Findings(metrics, trained.curve, trained.stop, warnings)


def score(value: float) -> Metric:
    """Return the metric of a score between 0 and 1."""
    return Metric(value, "1", better="higher", noise="sampled")


def saved_size(save: Callable[[Path], object]) -> CheckpointSize:
    """Return the size of the files that `save` writes into a folder."""
    with TemporaryDirectory(prefix="peftbench-") as folder:
        save(Path(folder))
        return checkpoint_size(Path(folder))
