"""The object that a benchmark function gets as `peft_case`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest

from peftbench.devices.failures import PoisonedError, one_line
from peftbench.errors import UnsupportedError, UserError, shown
from peftbench.libraries import warnings_only
from peftbench.measure.time.clock import Timing
from peftbench.records.record import record_to_json
from peftbench.text import on_terminal, visible
from peftbench.workloads.function import FunctionWorkload

if TYPE_CHECKING:
    from types import TracebackType

    from pytest_benchmark.fixture import BenchmarkFixture

    from peftbench.measure.time.rounds import TimedRound
    from peftbench.plugin.session import BenchSession
    from peftbench.processes.conduct import LaunchOutcome
    from peftbench.records.ids import Case
    from peftbench.records.record import Record
    from peftbench.tasks.base import Batch
    from peftbench.workloads.base import Benchmark

ENDINGS: Final = (KeyboardInterrupt, pytest.exit.Exception)
"""Exceptions that end the run. The case gets no record, and a resumed run measures it."""


@dataclass(frozen=True)
class PeftCase:
    """One method on one task at one batch size, ready to be measured."""

    case: Case
    workload: Benchmark
    id: str
    node: str
    bench: BenchSession = field(repr=False)
    benchmark: BenchmarkFixture = field(repr=False)
    _measured: list[str] = field(default_factory=list, init=False, repr=False)

    @property
    def is_measured(self) -> bool:
        """Whether the test has called `measure`."""
        return bool(self._measured)

    def measure(self, function: Callable[[Any, Batch], object] | None = None) -> Record | None:
        """Measure the workload, or a function of your own, and return the record.

        Args:
            function: Called in every round with a batch and the model, which has the method applied and is in
                evaluation mode. Its rounds alternate with those of the reference's model on the same batch.

        Returns:
            The record, or None under --benchmark-disable, where one round is run and nothing is measured.
        """
        __tracebackhide__ = True
        with warnings_only():
            return self._found(function)

    def _found(self, function: Callable[[Any, Batch], object] | None) -> Record | None:
        __tracebackhide__ = True
        self._once()
        if function is not None and not callable(function):
            problem = f"takes a function, not {shown(function)}; the workload is that of @bench, or of the marker"
            pytest.fail(on_terminal(f"{self.id}: measure() {problem}"), pytrace=False)
        workload = self.workload if function is None else FunctionWorkload.of(function)
        benchmark = self.benchmark
        if benchmark.disabled:
            try:
                benchmark.pedantic(self.bench.runner.try_once, args=(self.case, workload))
            except UnsupportedError as error:
                pytest.skip(on_terminal(f"unsupported: {error}"))
            except UserError as error:
                pytest.fail(on_terminal(f"{self.id}: {error}"), pytrace=False)
            return None
        benchmark.group = f"{workload.name} {self.case.group}"
        if self.bench.outcome is not None:
            return self._launched(self.bench.outcome, workload)
        if self.id in self.bench.resumed:
            pytest.skip("finished in the run that is resumed; its record is in the table and in the files")
        records = tuple(self.bench.records.values())
        self._skip_needless(workload, records)
        record = self._keep(self._taken(workload, records))
        self._attach(record)
        return self._shown(record)

    def _taken(self, workload: Benchmark, records: Sequence[Record]) -> Record:
        """Measure a case in this process and return its record. An error is recorded, too, and raised again.

        Of an error in a function of the user's, pytest shows the test and this function, not what lies between.
        """
        __tracebackhide__ = True
        runner, add = self.bench.runner, self._keep
        try:
            return runner.measure(
                self.case,
                workload,
                id=self.id,
                observer=partial(_observed, self.benchmark),
                records=records,
                only_time=self.bench.is_known(self.node),
            )
        except UserError as error:
            self._exit(error)
        except ENDINGS:
            raise
        except pytest.skip.Exception as error:  # raised by a function of the user
            add(
                replace(
                    runner.blank(self.case, workload, self.id), status="unsupported", reason=visible(one_line(error))
                )
            )
            raise
        except BaseException as error:
            add(runner.failed(self.case, workload, error, id=self.id))
            if isinstance(error, PoisonedError):
                pytest.exit(on_terminal(f"peftbench: {self.id}: {error}; finished cases are kept"), returncode=1)
            own = workload.function if isinstance(workload, FunctionWorkload) else None
            error.__traceback__ = _from(own, error.__traceback__)
            raise

    def _keep(self, record: Record) -> Record:
        """Write a record to the journal. If that fails the run ends, because later cases would fail, too."""
        try:
            return self.bench.add(record)
        except UserError as error:
            self._exit(error)

    def _exit(self, error: UserError) -> NoReturn:
        """End the run with the exit status of a usage error."""
        pytest.exit(on_terminal(f"peftbench: {self.id}: {error}"), returncode=pytest.ExitCode.USAGE_ERROR)

    def _once(self) -> None:
        """Refuse a second measurement in one test, because a test has one record."""
        if self._measured:
            pytest.fail(f"{self.id}: measure() is called again in this test: give it a test of its own", pytrace=False)
        self._measured.append(self.id)

    def _skip_needless(self, workload: Benchmark, records: Sequence[Record]) -> None:
        """Skip a case that earlier records make needless."""
        if reason := workload.needless(self.case, self.bench.settings, records):
            pytest.skip(reason)

    def _launched(self, outcome: LaunchOutcome, workload: Benchmark) -> Record:
        """Report the result of the launches of this case, as if it had been measured here."""
        record = outcome.records.get(self.id)
        if record is None:
            self._skip_needless(workload, tuple(outcome.records.values()))
            self.bench.failed_in_its_test(self.id)
            pytest.fail(f"{self.id}: no launch finished it; the log of each launch says why", pytrace=False)
        if record.launches:
            _feed(self.benchmark, [launch.time_s for launch in record.launches])
        self._attach(record)
        if message := outcome.failure(self.id):  # first, since `_shown` would skip a case that lost its numbers
            self.bench.failed_in_its_test(self.id)
            pytest.fail(on_terminal(message), pytrace=False)
        return self._shown(record)

    def _attach(self, record: Record) -> None:
        """Add the record to the JSON of pytest-benchmark."""
        self.benchmark.extra_info["peftbench"] = record_to_json(record)

    def _shown(self, record: Record) -> Record:
        """Return a record that has numbers; fail or skip the test of any other record, with the reason."""
        if record.status in ("invalid", "failed"):
            pytest.fail(on_terminal(f"{self.id}: {record.reason}"), pytrace=False)
        if record.status != "ok":
            pytest.skip(on_terminal(f"{record.status}: {record.reason}"))
        return record


def _from(function: object, traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback from the frame of a function on; the whole one if the function is not in it."""
    code, inner = getattr(function, "__code__", None), traceback
    while inner is not None and inner.tb_frame.f_code is not code:
        inner = inner.tb_next
    return inner or traceback


def _feed(benchmark: BenchmarkFixture, times_s: Sequence[float]) -> None:
    """Give pytest-benchmark the times of launches. An empty round makes its entry, and this round's time is dropped."""
    benchmark.pedantic(lambda: None)
    _restate(benchmark, times_s)


def _restate(benchmark: BenchmarkFixture, times_s: Sequence[float]) -> None:
    """Replace the times that pytest-benchmark took itself."""
    benchmark.stats.stats.data.clear()
    for time_s in times_s:
        benchmark.stats.stats.update(time_s)


def _observed(benchmark: BenchmarkFixture, timed: TimedRound) -> TimedRound:
    """Return a timed round that also gives each wall time to pytest-benchmark's statistics.

    pytest-benchmark's pedantic mode must know the number of rounds beforehand. It therefore runs the first round, and
    the times of the others are added to its statistics.
    """

    def observed(number: int) -> Timing:
        if benchmark.stats is None:
            first: Timing = benchmark.pedantic(timed, args=(number,), rounds=1)
            _restate(benchmark, [first.wall_s])  # its own time includes preparing the round
            return first
        if number == 0:  # rounds are taken again because the device was slowed down
            benchmark.stats.stats.data.clear()
        timing = timed(number)
        benchmark.stats.stats.update(timing.wall_s)
        return timing

    return observed
