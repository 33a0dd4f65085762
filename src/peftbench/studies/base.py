"""Workloads that are not timed round by round: a study runs once, from its start to its end."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from peftbench.measure.time.clock import Timing
from peftbench.workloads.base import Trial, Workload

if TYPE_CHECKING:
    from peftbench.config.settings import Settings
    from peftbench.matrix.cases import Case
    from peftbench.measure.time.clock import Clock
    from peftbench.measure.time.rounds import TimedRound
    from peftbench.records.record import CurvePoint, Metric, Record
    from peftbench.workloads.backend import Backend
    from peftbench.workloads.base import Subject


@dataclass(frozen=True, slots=True)
class Findings:
    """What a study adds to the record of its case."""

    metrics: Mapping[str, Metric]
    curve: tuple[CurvePoint, ...] = ()
    stop: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Desk:
    """What a study works with."""

    backend: Backend
    clock: Clock
    records: Sequence[Record]
    """What the run has yielded so far."""
    shared: dict[str, Any] = field(default_factory=dict)
    """What a study keeps for the next cases of the same group."""


@dataclass(frozen=True, kw_only=True)
class Study(Workload):
    """A workload that runs once for a case, and says itself what it found."""

    default: bool = False
    in_all: bool = False
    paired: bool = False

    def trial(self, subject: Subject) -> Trial:
        """Raise: a study has no rounds."""
        del subject
        raise TypeError(f"{self.name} is a study: it has no rounds")

    def check(self, backend: Backend, cases: Sequence[Case]) -> None:
        """Refuse what cannot be done, before the first case begins.

        Raises:
            UserError: says what, and what to do.
        """
        del backend, cases

    def unsupported_case(self, case: Case, backend: Backend) -> str:
        """Return why a case cannot be done, or ''."""
        method = backend.catalogue.method(case.method.name)
        if method.together:
            return f"{method.name} trains several tasks together: --peftbench-workloads={method.together} does"
        tasks = [backend.catalogue.task(name) for name in case.tasks]
        reasons = [method.unsupported(task, architecture=backend.config.model_type) for task in tasks]
        return next(filter(None, reasons), "") or self.unsupported(method, backend.settings.precision)

    def needless(self, case: Case, settings: Settings, records: Iterable[Record]) -> str:
        """Return why a case need not be run, given what was found already, or ''."""
        del case, settings, records
        return ""

    @abstractmethod
    def conduct(self, case: Case, desk: Desk) -> Findings:
        """Return what is found in one case.

        Raises:
            UnsupportedError, UserError: it cannot be done.
        """


def recorded(
    study: Study, case: Case, blank: Record, desk: Desk, observer: Callable[[TimedRound], TimedRound]
) -> Record:
    """Run a study and return the record of its case; to the observer the whole of it is one round."""
    found: list[Findings] = []

    def whole(number: int) -> Timing:
        del number
        start = perf_counter()
        found.append(study.conduct(case, desk))
        return Timing(perf_counter() - start)

    took_s = observer(whole)(0).wall_s
    return replace(
        blank,
        metrics=found[0].metrics,
        curve=found[0].curve,
        stop=found[0].stop,
        warnings=found[0].warnings,
        passes_s={"study": took_s},
    )
