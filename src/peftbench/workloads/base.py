"""The base of all benchmarks, and the base of workloads, which are timed round by round."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peftbench.config.settings import Settings
    from peftbench.devices.precision import Precision
    from peftbench.measure.time.clock import Clock
    from peftbench.measure.time.rounds import Observer
    from peftbench.measure.time.stopwatch import Stopwatch
    from peftbench.measure.trial import Trial
    from peftbench.methods.base import Method
    from peftbench.records.ids import Case
    from peftbench.records.record import Metric, Record
    from peftbench.tasks.base import Task
    from peftbench.workloads.backend import Backend, Group
    from peftbench.workloads.subject import Subject


@dataclass(frozen=True)
class Workbench:
    """Backend, clock and records with which a case is measured."""

    backend: Backend
    clock: Clock
    records: Sequence[Record] = ()
    """The records of the run so far."""
    shared: dict[str, Any] = field(default_factory=dict)
    """A store by name, kept for the next cases of the same group."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What the measurement of one case needs beside its workbench."""

    blank: Record
    """The record of the case, still without metrics."""
    observer: Observer
    """Wraps the timed rounds."""
    watch: Stopwatch
    """Adds up the time of each pass."""
    take_passes: Callable[[Workload, Case, Measurement], Record]
    """Takes the passes over a case of a workload, and returns its record."""
    only_time: bool = False
    """Whether an earlier process has proven and counted the case, and only its time is wanted."""


TakeRound = Callable[["Workload", "Case"], None]
"""Runs one round of a case of a workload, and measures nothing."""


@dataclass(frozen=True, kw_only=True)
class Benchmark(ABC):
    """The base of workloads, which have rounds, and of studies, which have none."""

    name: str
    summary: str
    phases: tuple[str, ...] = ()
    """Names of the phases of a round, in order, each with a metric of its own; empty if a round has no phases."""
    paired: bool = False
    """Whether rounds alternate with those of the reference (the same workload of the reference method)."""
    default: bool = True
    """Whether it is measured if the command line names neither it nor the file of its benchmark function."""
    in_all: bool = True
    """Whether `all` includes it."""
    study_settings: bool = False
    """Whether the settings of studies (epochs, target, ...) change its numbers."""
    keeps_data: bool = False
    """Whether data stays on the device between its cases. Memory that stays allocated is then no leak."""
    methods: tuple[str, ...] = ("default",)
    """Methods that are measured if none is named."""
    tasks: tuple[str, ...] = ()
    """Tasks that are measured if none is named. Empty: all tasks."""
    batch_sizes: tuple[int, ...] = (1, 8)
    """Batch sizes that are measured if none is named."""
    cuda_tasks: tuple[str, ...] = ()
    """The same as `tasks` on CUDA, where a case takes seconds. Empty: `tasks`."""
    cuda_batch_sizes: tuple[int, ...] = ()
    """The same as `batch_sizes` on CUDA, where small batches only show the host. Empty: `batch_sizes`."""

    def expand(self, cases: Sequence[Case], settings: Settings) -> Sequence[Case]:
        """Return the cases of this benchmark, given the matrix of methods, tasks and batch sizes."""
        del settings
        return cases

    def check(self, backend: Backend, cases: Sequence[Case]) -> None:
        """Check the settings and the data of all cases before the first one begins.

        Raises:
            UserError: a case cannot be measured; says why, and what to do.
        """
        del backend, cases

    def unsupported(self, method: Method, precision: Precision) -> str:
        """Return the reason why it cannot be measured with `method` at `precision`, or ''."""
        del method, precision
        return ""

    def length(self, case: Case, backend: Backend) -> int:
        """Return the length in tokens that the record of a case names."""
        return max(backend.seq_len(backend.definitions.task(name)) for name in case.tasks)

    def can_do(self, task: Task) -> bool:
        """Tell whether it can be measured on a task. Only then does `all` include it for the task."""
        del task
        return True

    def unsupported_case(self, case: Case, backend: Backend) -> str:
        """Return the reason why a case cannot be measured, or ''."""
        method = backend.definitions.method(case.method.name)
        tasks = [backend.definitions.task(name) for name in case.tasks]
        reasons = [method.unsupported(task, architecture=backend.config.model_type) for task in tasks]
        return next(filter(None, reasons), "") or self.unsupported(method, backend.precision)

    def needless(self, case: Case, settings: Settings, records: Iterable[Record]) -> str:
        """Return the reason why a case need not be run, given the records so far, or ''."""
        del case, settings, records
        return ""

    @abstractmethod
    def measure(self, case: Case, bench: Workbench, measurement: Measurement) -> Record:
        """Measure one case.

        Raises:
            UnsupportedError, ValidityError, UserError: the case cannot be measured; says why.
        """

    @abstractmethod
    def try_once(self, case: Case, bench: Workbench, take_round: TakeRound) -> None:
        """Run the shortest version of the case: one round, or one step or request of a study. Nothing is measured."""


@dataclass(frozen=True, kw_only=True)
class Workload(Benchmark):
    """A benchmark with rounds: it makes the trial whose function is timed."""

    paired: bool = True
    trains: bool = False
    """Whether a round changes weights."""
    runs_model: bool = True
    """Whether a round runs the model on a batch. Only then are tokens per second reported, and models compiled."""
    generates: bool = False
    """Whether a round generates text. The method must then prove that it does so with a cache, too."""
    counted: bool = True
    """Whether all warm rounds make the same calls, so that the counters of one round hold for all."""

    def measure(self, case: Case, bench: Workbench, measurement: Measurement) -> Record:
        """Take all passes over the case."""
        del bench
        return measurement.take_passes(self, case, measurement)

    def try_once(self, case: Case, bench: Workbench, take_round: TakeRound) -> None:
        """Run one round."""
        del bench
        take_round(self, case)

    @abstractmethod
    def trial(self, subject: Subject) -> Trial:
        """Build the model and everything else that a round needs.

        Raises:
            UnsupportedError: the workload cannot be run with this method on this model.
        """

    def reference_trial(self, subject: Subject) -> Trial:
        """Build the trial of the reference, given the reference method on the same batches."""
        return self.trial(subject)

    def tokens(self, group: Group) -> float | None:
        """Return the tokens of a round without padding, averaged over the batches; None if it runs no model."""
        return group.tokens if self.runs_model else None

    def own_metrics(self, subject: Subject) -> Mapping[str, Metric]:
        """Return further metrics of a subject, which the workload measures in a pass of its own."""
        del subject
        return {}
