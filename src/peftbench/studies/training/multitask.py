"""The studies of one encoder for several tasks: it is trained on all of them, or one task is added to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from peftbench.errors import UserError
from peftbench.records.ids import Case, MethodSpec, joint_task
from peftbench.studies.base import Study, StudyFindings
from peftbench.studies.training.convergence import measured_already, pruned, variants
from peftbench.studies.training.results import ADDING, FULL, MTL, MULTITASK, trainings
from peftbench.workloads.base import Workbench

if TYPE_CHECKING:
    from peftbench.config.settings import Settings
    from peftbench.records.record import Record
    from peftbench.workloads.backend import Backend

REPLAYS: Final = (0.0, 0.05, 0.2)
"""Shares of each old task that are trained on again when a task is added, as in the paper."""


@dataclass(frozen=True, kw_only=True)
class JointStudy(Study):
    """A study of one encoder for all tasks together. It ignores the methods that were asked for."""

    methods: tuple[str, ...] = (FULL,)
    batch_sizes: tuple[int, ...] = (32,)

    def expand(self, cases: Sequence[Case], settings: Settings) -> Sequence[Case]:
        """Return one case of all tasks for each batch size, seed and learning rate."""
        tasks = dict.fromkeys(case.task for case in cases)
        sizes = dict.fromkeys(case.batch_size for case in cases)
        joint = [Case(MethodSpec(MTL), joint_task(tasks), size) for size in sizes]
        return [case.with_variant(**variant) for case in joint for variant in variants(settings)]

    def check(self, backend: Backend, cases: Sequence[Case]) -> None:
        """Read all data.

        Raises:
            UserError: there is only one task, or the data cannot be used.
        """
        check_several(self.name, backend, cases)

    def unsupported_case(self, case: Case, backend: Backend) -> str:
        """Return the reason why the tasks cannot be trained at this precision, or ''."""
        del case
        return backend.precision.untrainable

    def needless(self, case: Case, settings: Settings, records: Iterable[Record]) -> str:
        """Return that the same training was measured already, or that another learning rate is better, or ''."""
        records = list(records)
        return measured_already(case, records, self.name) or pruned(case, settings, trainings(records, self.name))


def check_several(study: str, backend: Backend, cases: Sequence[Case]) -> None:
    """Read all data of a study of several tasks.

    Raises:
        UserError: there is only one task, one has no head of its own, or the data cannot be used.
    """
    from peftbench.studies.training import task_data

    if alone := [case.task for case in cases if len(case.tasks) == 1]:
        raise UserError(f"{study} takes two tasks or more, not {alone[0]} alone: add to --peftbench-tasks")
    if apart := [name for case in cases for name in case.tasks if backend.definitions.task(name).packable]:
        raise UserError(
            f"{study} gives each task a head on one encoder, and {apart[0]} has none of its own: "
            "train it alone, on rows of all kinds"
        )
    task_data.check(backend, list(dict.fromkeys(task for case in cases for task in case.tasks)))


@dataclass(frozen=True, kw_only=True)
class MultiTaskStudy(JointStudy):
    """Trains one encoder on all tasks at once."""

    def conduct(self, case: Case, bench: Workbench) -> StudyFindings:
        """Train once."""
        from peftbench.studies.training import joint

        return joint.together(case, bench)


@dataclass(frozen=True, kw_only=True)
class Adding(JointStudy):
    """Adds the last of the tasks to an encoder that was trained on the others."""

    def expand(self, cases: Sequence[Case], settings: Settings) -> Sequence[Case]:
        """Return one case for each batch size, seed, learning rate and share of the old tasks that is replayed."""
        return [
            case.with_variant(**dict(case.variant), replay=replay)
            for case in JointStudy.expand(self, cases, settings)
            for replay in REPLAYS
        ]

    def conduct(self, case: Case, bench: Workbench) -> StudyFindings:
        """Train the encoder on the old tasks, unless the last case did so, and then add the new task."""
        from peftbench.studies.training import joint

        return joint.added(case, bench)


WORKLOADS: Final[tuple[Study, ...]] = (
    MultiTaskStudy(name=MULTITASK, summary="a real training of one encoder, with one head for each task, on all tasks"),
    Adding(
        name=ADDING, summary="a real training that adds the last task to a multi-task model, with and without replay"
    ),
)
