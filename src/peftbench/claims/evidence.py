"""The records on which claims are judged, with one choice of learning rates and one target."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from peftbench.claims.intervals import Observation
from peftbench.config.settings import options
from peftbench.config.target import QualityTarget
from peftbench.errors import UserError
from peftbench.methods.optimization import Optimization
from peftbench.records.ids import group_name, joint_task, task_names
from peftbench.records.known import KnownVariant, require
from peftbench.records.record import NAMED, Record, Run
from peftbench.records.runfile import load_run
from peftbench.studies.training.results import (
    ADDING,
    CONVERGENCE,
    DEPLOYMENT,
    FULL,
    FUSION,
    MERGING,
    MTL,
    MULTITASK,
    Policy,
    Training,
    full_quality,
    trainings,
    under,
)
from peftbench.studies.training.stopping import Cost, cost

NO_ADAPTERS: Final = frozenset({FULL, MTL, "head", "bitfit"})
"""Methods that add nothing to the model."""
VARIED: Final[Mapping[str, Sequence[str]]] = {
    CONVERGENCE: (),
    MULTITASK: (),
    ADDING: ("replay",),
    DEPLOYMENT: ("by", "n"),
    MERGING: ("by", "seed"),
}
"""Workload -> keys of its records' variants, besides seed and learning rate."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The observations of one case for a claim."""

    method: str
    where: str
    """Task, batch size and so on: the rest of the case's name."""
    observed: Mapping[object, Observation]
    """Observation by seed, or by launch."""

    @property
    def case(self) -> str:
        """The name of the case."""
        return f"{self.method} {self.where}"


@dataclass(frozen=True, slots=True)
class JointTraining:
    """One training of a multi-task model."""

    training: Training

    @property
    def groups(self) -> dict[str, str]:
        """Task -> group in which the task is trained alone."""
        record = self.training.record
        return {task: group_name(task, record.batch_size) for task in task_names(record.task)}

    @property
    def addition(self) -> str:
        """A text that names the old tasks, the task that is added, and the share that is replayed."""
        *old, new = self.groups
        return f"of {joint_task(old)} given {new}, {self.training.record.variant['replay']:.0%} replayed"


@dataclass(frozen=True)
class Evidence:
    """Records, with one choice of learning rates and one target."""

    records: Sequence[Record]
    policy: Policy
    shared_lr: float
    target: QualityTarget

    @cached_property
    def _trainings(self) -> list[Training]:
        return trainings(self.records)

    @cached_property
    def _singles(self) -> dict[tuple[str, str, int], Training]:
        """Trainings on one task, by method, group and seed."""
        chosen = under(self.policy, self._trainings, self.shared_lr)
        return {(*key, one.seed): one for key, members in chosen.items() for one in members}

    @cached_property
    def _goals(self) -> dict[str, float | None]:
        groups = dict.fromkeys(one.group for one in self._trainings)
        return {group: self.target.quality(full_quality(self._trainings, group)) for group in groups}

    def single(self, method: str, group: str, seed: int) -> Training | None:
        """Return the training of a method on one task with one seed, or None."""
        return self._singles.get((method, group, seed))

    def singles(self, of: Callable[[str], bool] | None = None) -> list[Training]:
        """Return the trainings on one task of the methods for which `of` is true; None: of all methods."""
        return [one for one in self._singles.values() if of is None or of(one.method)]

    def adapters(self) -> list[Training]:
        """Return the trainings of all adapters on one task each."""
        return self.singles(is_adapter)

    def adapter_methods(self) -> list[str]:
        """Return the names of the adapters that were trained."""
        return list(dict.fromkeys(one.method for one in self.adapters()))

    def joint(self, workload: str = MULTITASK) -> Iterator[JointTraining]:
        """Yield the trainings of multi-task models. The learning rate is chosen separately for each share of replay."""
        found = trainings(self.records, workload)
        for replay in dict.fromkeys(one.record.variant.get("replay") for one in found):
            alike = [one for one in found if one.record.variant.get("replay") == replay]
            for members in under(self.policy, alike, self.shared_lr).values():
                yield from map(JointTraining, members)

    def goal(self, group: str) -> float | None:
        """Return the target quality of a group; None if full fine-tuning, which sets it, is missing or scored 0."""
        return self._goals.get(group)

    def cost(self, training: Training | None, what: str) -> Cost | None:
        """Return the cost of a training to reach the target of its group; None if one of them is missing.

        Args:
            training: The training.
            what: The field of a `CurvePoint` that holds the cost.
        """
        goal = self.goal(training.group) if training else None
        return None if training is None or goal is None else cost(training.curve, goal, what)

    def size(self, method: str, group: str, seed: int) -> float | None:
        """Return the bytes of the checkpoint of a training on one task."""
        training = self.single(method, group, seed)
        return value(training.record, "checkpoint_bytes") if training else None

    def added_bytes(self, records: Sequence[Record]) -> float | None:
        """Return the bytes that a method stores besides the backbone for several tasks; None if they are not known.

        The adapters that a fusion mixes are stored once.

        Args:
            records: One record for each task.
        """
        sizes = [value(record, "checkpoint_bytes") for record in records]
        mixed = [self.mixed_bytes(record) for record in records]
        if None in sizes or None in mixed:
            return None
        return math.fsum(filter(None, sizes)) + max(filter(None, mixed), default=0.0)

    def mixed_bytes(self, record: Record) -> float | None:
        """Return the bytes of the frozen adapters that the checkpoint of a fusion needs but does not hold.

        They are the parameters that the model has beyond the plain model's and beyond those that it trains. The result
        is 0 for other methods, and None if it is not known.
        """
        if base_name(record.method) != FUSION:
            return 0.0
        full = self.twin(record, FULL)
        fused, trained = value(record, "total_parameters"), value(record, "trainable_body")
        plain, plain_bytes = value(full, "total_parameters"), value(full, "checkpoint_bytes")
        if fused is None or trained is None or not plain or plain_bytes is None:
            return None
        return (fused - trained - plain) * plain_bytes / plain

    def twin(self, record: Record, method: str, **changes: object) -> Record | None:
        """Return the record of another method whose variant is the same (learning rates may differ), or None.

        Args:
            record: The record whose twin is looked for.
            method: The other method.
            changes: Entries of the variant that differ in the twin.
        """
        variant = {**record.variant, **changes}
        if record.workload == CONVERGENCE:
            variant.pop("lr", None)
        return next((other for other in self._alike(record) if _is(other, method, variant)), None)

    def _alike(self, record: Record) -> list[Record]:
        return self._by_group.get((record.workload, record.group, record.seq_len), [])

    @cached_property
    def _by_group(self) -> dict[tuple[str, str, int], list[Record]]:
        groups: dict[tuple[str, str, int], list[Record]] = {}
        for record in self.records:
            groups.setdefault((record.workload, record.group, record.seq_len), []).append(record)
        return groups


def is_adapter(method: str) -> bool:
    """Return whether a method, given with or without overrides, adds something to the model."""
    return base_name(method) not in NO_ADAPTERS


def base_name(method: str) -> str:
    """Return a method's name without its overrides."""
    return method.partition("(")[0]


def value(record: Record | None, name: str) -> float | None:
    """Return a metric's value, or None if the record does not have it."""
    metric = record.metrics.get(name) if record else None
    return metric.value if metric else None


def load_runs(paths: Sequence[Path]) -> list[Run]:
    """Read runs whose numbers can be pooled.

    Raises:
        UserError: a file cannot be read, or the runs differ in model, data, device or another setting that changes
            numbers.
    """
    runs = [load_run(path) for path in paths]
    require_poolable({str(path): run for path, run in zip(paths, runs, strict=True)})
    return runs


def require_poolable(runs: Mapping[str, Run]) -> None:
    """Refuse runs whose numbers cannot be pooled. Errors name the runs by their keys.

    Raises:
        UserError: the runs differ in model, data, device or another setting that changes numbers, or a record of a
            study lacks what it varies.
    """
    for name, run in runs.items():
        for record in distinct(run.records):
            if (varied := VARIED.get(record.workload)) is not None:
                where = f"{name}: record {record.id[:NAMED]}: variant"
                require(KnownVariant, record.variant, where, never_missing=varied)
    first: dict[str, tuple[str, object]] = {}
    for name, run in runs.items():
        for setting, ours in _comparable(run).items():
            other, theirs = first.setdefault(setting, (name, ours))
            if theirs != ours:
                raise UserError(f"{name}: {setting} is {ours}, in {other} it is {theirs}; give runs of one kind")


def _comparable(run: Run) -> dict[str, object]:
    """Return the settings that must be equal in pooled runs; those of studies only if the run has trainings."""
    trains = any(trainings(run.records, workload) for workload in (CONVERGENCE, MULTITASK, ADDING))
    trains = trains or any(record.workload == MERGING for record in run.records)
    left_out = {name for name, option in options().items() if option.pools or (option.studies and not trains)}
    return {name: value for name, value in run.settings.items() if name not in left_out}


def target_of(text: str | None, runs: Sequence[Run]) -> QualityTarget:
    """Return the target in `text`; if it is None, the target of the runs."""
    return QualityTarget.read(text or next((run.settings["target"] for run in runs if "target" in run.settings), "97%"))


def shared_lr(runs: Sequence[Run]) -> float:
    """Return the learning rate at which every method was trained: the first in the runs' settings."""
    rates = (run.settings.get("learning_rates") for run in runs)
    return next((float(found[0]) for found in rates if found), Optimization().learning_rate)


def distinct(records: Iterable[Record]) -> tuple[Record, ...]:
    """Return the records with status `ok`. If several have one id, the last one is returned."""
    return tuple({record.id: record for record in records if record.status == "ok"}.values())


def _is(record: Record, method: str, variant: Mapping[str, object]) -> bool:
    return record.method == method and variant.items() <= record.variant.items()
