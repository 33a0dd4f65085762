"""Trainings, read from records, and the best learning rate of a method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, Literal

from peftbench.records.record import CurvePoint, Record
from peftbench.studies.training.stopping import best

CONVERGENCE: Final = "convergence"
MULTITASK: Final = "multitask"
ADDING: Final = "adding"
DEPLOYMENT: Final = "deployment"
MERGING: Final = "merging"
OWN: Final = "own"
"""End point of merging: each task keeps its own adapter, and nothing is merged."""
HEADS: Final = "heads"
"""End point of merging: each task keeps its trained head on the plain backbone, and no adapter."""
FULL: Final = "full"
MTL: Final = "mtl"
"""Full fine-tuning of one shared encoder on all tasks, with one head for each task."""
FUSION: Final = "adapterfusion"
"""Attention over frozen adapters that were trained before."""

Policy = Literal["shared", "tuned"]
"""Learning rate that is compared: `shared` is one for all methods, as in the paper; `tuned` is each method's best."""


@dataclass(frozen=True, slots=True)
class Training:
    """One training of a method on a task (or on several at once), with one seed and one learning rate."""

    record: Record
    method: str
    group: str
    """Task and batch size."""
    seed: int
    lr: float
    curve: tuple[CurvePoint, ...]

    @property
    def quality(self) -> float:
        """The highest quality of the curve."""
        return best(self.curve).quality


def trainings(records: Iterable[Record], workload: str = CONVERGENCE) -> list[Training]:
    """Return the trainings among the records."""
    return [
        Training(record, record.method, record.group, record.variant["seed"], record.variant["lr"], record.curve)
        for record in records
        if record.workload == workload and record.curve and {"seed", "lr"} <= record.variant.keys()
    ]


def best_lr(found: Sequence[Training]) -> float:
    """Return the learning rate with the highest quality with the first seed; the smaller one if two are equal.

    Args:
        found: Trainings of one method in one group, at least one.
    """
    first = min(training.seed for training in found)
    return max((one for one in found if one.seed == first), key=lambda one: (one.quality, -one.lr)).lr


def under(policy: Policy, found: Iterable[Training], shared_lr: float) -> dict[tuple[str, str], list[Training]]:
    """Return the trainings at the learning rate that the policy chooses, by method and group, sorted by seed."""
    groups: dict[tuple[str, str], list[Training]] = {}
    for one in found:
        groups.setdefault((one.method, one.group), []).append(one)
    chosen = {}
    for key, members in groups.items():
        lr = shared_lr if policy == "shared" else best_lr(members)
        if at_rate := sorted((one for one in members if one.lr == lr), key=lambda one: one.seed):
            chosen[key] = at_rate
    return chosen


def full_quality(found: Iterable[Training], group: str) -> float | None:
    """Return the mean quality over seeds of full fine-tuning at its best learning rate; None if it was not measured."""
    members = under("tuned", found, 0.0).get((FULL, group))
    return fmean(one.quality for one in members) if members else None
