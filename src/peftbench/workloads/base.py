"""What a benchmark function can measure: a workload, which is timed round by round, or anything else that is one."""

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
    from peftbench.workloads.backend import Backend
    from peftbench.workloads.subject import Subject


@dataclass(frozen=True)
class Workbench:
    """What the cases of a run are measured with."""

    backend: Backend
    clock: Clock
    records: Sequence[Record] = ()
    """What the run has yielded so far."""
    shared: dict[str, Any] = field(default_factory=dict)
    """What is kept for the next cases of the same group."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The measurement of one case, about to begin."""

    blank: Record
    """The record of the case, of which nothing is known yet."""
    observer: Observer
    """Wraps the timed rounds."""
    watch: Stopwatch
    """Learns how long each pass takes."""
    take_passes: Callable[[Workload, Case, Measurement], Record]
    """Takes all passes over a case of a workload, and returns its record."""


TakeRound = Callable[["Workload", "Case"], None]
"""Takes one round of a case of a workload, and measures nothing."""


@dataclass(frozen=True, kw_only=True)
class Benchmark(ABC):
    """What a benchmark function measures: the base of workloads, which have rounds, and of studies, which have none."""

    name: str
    summary: str
    phases: tuple[str, ...] = ()
    """Names of the parts of a round, in order, that are reported apart; empty where there is but one."""
    paired: bool = False
    """Whether rounds alternate with those of the reference (the same workload of the reference method)."""
    default: bool = True
    """Whether it is measured where neither it nor the file of its benchmark function is named."""
    in_all: bool = True
    """Whether `all` stands for it as well."""
    study_settings: bool = False
    """Whether the settings of studies (epochs, target, ...) change its numbers."""
    keeps_data: bool = False
    """Whether data stays on the device between its cases: what is left there is then no leak."""
    methods: tuple[str, ...] = ("default",)
    """What is measured where no method is named; so with the next two."""
    tasks: tuple[str, ...] = ()
    """None: all."""
    batch_sizes: tuple[int, ...] = (1, 8)

    def expand(self, cases: Sequence[Case], settings: Settings) -> Sequence[Case]:
        """Return what is made of the matrix of methods, tasks and batch sizes."""
        del settings
        return cases

    def check(self, backend: Backend, cases: Sequence[Case]) -> None:
        """Refuse what cannot be done, before the first case begins.

        Raises:
            UserError: says what, and what to do.
        """
        del backend, cases

    def unsupported(self, method: Method, precision: Precision) -> str:
        """Return the reason why it cannot be done with `method` at `precision`, or ''."""
        del method, precision
        return ""

    def unsupported_case(self, case: Case, backend: Backend) -> str:
        """Return the reason why a case cannot be done, or ''."""
        method = backend.definitions.method(case.method.name)
        tasks = [backend.definitions.task(name) for name in case.tasks]
        reasons = [method.unsupported(task, architecture=backend.config.model_type) for task in tasks]
        return next(filter(None, reasons), "") or self.unsupported(method, backend.precision)

    def needless(self, case: Case, settings: Settings, records: Iterable[Record]) -> str:
        """Return why a case need not be run, given what was found already, or ''."""
        del case, settings, records
        return ""

    @abstractmethod
    def measure(self, case: Case, bench: Workbench, measurement: Measurement) -> Record:
        """Measure one case.

        Raises:
            UnsupportedError, ValidityError, UserError: it cannot be measured; says why.
        """

    @abstractmethod
    def try_once(self, case: Case, bench: Workbench, take_round: TakeRound) -> None:
        """Do the least of what `measure` does, and measure nothing."""


@dataclass(frozen=True, kw_only=True)
class Workload(Benchmark):
    """The function that is timed."""

    paired: bool = True
    trains: bool = False
    """Whether a round changes weights."""
    runs_model: bool = True
    """Whether a round runs the model on a batch: then tokens have a rate, and the model can be compiled."""
    counted: bool = True
    """Whether warm rounds do the same, call by call, so that counters of one hold for all."""

    def measure(self, case: Case, bench: Workbench, measurement: Measurement) -> Record:
        """Take all passes over the case."""
        del bench
        return measurement.take_passes(self, case, measurement)

    def try_once(self, case: Case, bench: Workbench, take_round: TakeRound) -> None:
        """Take one round."""
        del bench
        take_round(self, case)

    @abstractmethod
    def trial(self, subject: Subject) -> Trial:
        """Build the model and everything else that a round needs.

        Raises:
            UnsupportedError: it cannot be done with this method on this model.
        """

    def reference_trial(self, subject: Subject) -> Trial:
        """Build what rounds alternate with, given the reference method on the same batches."""
        return self.trial(subject)

    def own_metrics(self, subject: Subject) -> Mapping[str, Metric]:
        """Return what else the workload tells of a subject, found out in a pass of its own."""
        del subject
        return {}
