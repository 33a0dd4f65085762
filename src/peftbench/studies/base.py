"""The base of studies. A study runs once for a case and returns its own metrics."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

from peftbench.measure.time.clock import Timing
from peftbench.workloads.base import Benchmark

if TYPE_CHECKING:
    from peftbench.records.ids import Case
    from peftbench.records.record import CurvePoint, LoadPoint, Metric, Record
    from peftbench.workloads.backend import Backend
    from peftbench.workloads.base import Measurement, TakeRound, Workbench


@dataclass(frozen=True, slots=True)
class StudyFindings:
    """The results that a study adds to the record of its case."""

    metrics: Mapping[str, Metric]
    curve: tuple[CurvePoint, ...] = ()
    stop: str = ""
    warnings: tuple[str, ...] = ()
    loads: tuple[LoadPoint, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Study(Benchmark):
    """A benchmark without rounds, such as a training to a quality or a server under load."""

    default: bool = False
    in_all: bool = False
    study_settings: bool = True
    keeps_data: bool = True

    def unsupported_case(self, case: Case, backend: Backend) -> str:
        """Return the reason why a case cannot be measured, or ''."""
        method = backend.definitions.method(case.method.name)
        if method.together:
            return f"{method.name} trains several tasks together: --peftbench-workloads={method.together} does"
        if backend.execution.captures:
            return f"{self.name}: a CUDA graph takes one shape, and batches of a study differ; give another execution"
        return super().unsupported_case(case, backend)

    @abstractmethod
    def conduct(self, case: Case, bench: Workbench) -> StudyFindings:
        """Run the study for one case and return its results.

        Raises:
            UnsupportedError, UserError: the case cannot be measured.
        """

    def try_once(self, case: Case, bench: Workbench, take_round: TakeRound) -> None:
        """Run the shortest study: one step, one request."""
        del take_round
        self.conduct(case, replace(bench, backend=bench.backend.rehearsing()))

    def measure(self, case: Case, bench: Workbench, measurement: Measurement) -> Record:
        """Run the study and return the record of its case. The observer sees the whole study as one round."""
        found: list[StudyFindings] = []

        def whole(number: int) -> Timing:
            del number
            start = perf_counter()
            found.append(self.conduct(case, bench))
            return Timing(perf_counter() - start)

        with measurement.watch.during("study"):
            took_s = measurement.observer(whole)(0).wall_s
        return replace(
            measurement.blank,
            metrics=found[0].metrics,
            curve=found[0].curve,
            loads=found[0].loads,
            stop=found[0].stop,
            warnings=found[0].warnings,
            passes_s={"study": took_s},
        )
