"""The runner: it measures one case after the other, and returns a record whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from peftbench.devices import compiling
from peftbench.devices.environment import fingerprint
from peftbench.devices.failures import PoisonedError, classify, context_is_alive, is_sticky, one_line
from peftbench.devices.seeding import seed_generators
from peftbench.errors import UnsupportedError, UserError, ValidityError
from peftbench.measure.memory.device_memory import leak, release
from peftbench.measure.probes import probes_for
from peftbench.measure.time.clock import clock_for
from peftbench.measure.time.frames import with_room
from peftbench.measure.time.rounds import interleave
from peftbench.measure.time.stopwatch import Stopwatch
from peftbench.records.record import Record, Status
from peftbench.run.heap import Heap
from peftbench.run.held import HeldGroup
from peftbench.run.passes import Passes
from peftbench.run.proofs import Proofs
from peftbench.state import process, torch_state
from peftbench.state.facet import look, put_back
from peftbench.text import visible
from peftbench.workloads.base import Measurement, Workbench

if TYPE_CHECKING:
    from peftbench.measure.time.rounds import Observer
    from peftbench.records.ids import Case
    from peftbench.run.passes import Take
    from peftbench.workloads.backend import Backend, Group
    from peftbench.workloads.base import Benchmark, Workload


class Runner:
    """Measures cases on one backend. What the cases of a group share is kept until another group begins."""

    def __init__(self, backend: Backend, *, session: str) -> None:
        self.backend = backend
        self._take: Take = interleave
        self._clock = clock_for(backend.device)
        self._probes = probes_for(backend.device, backend.settings)
        self._held = HeldGroup(backend, self._probes)
        self._passes = Passes(backend, clock=self._clock, probes=self._probes, session=session)
        self._proofs = Proofs()
        self._shared: dict[str, object] = {}
        self._watch = Stopwatch()  # that of the last case
        self._tell: Callable[[str], object] | None = None
        threads = () if backend.execution.compiles else (process.THREADS,)
        self._facets = (*process.FACETS, *torch_state.FACETS, *threads)
        """The state that a case can change for later cases, besides the batches."""
        self._changes: tuple[str, ...] = ()
        """Changes of state by the last case, a line each."""
        self._held_bytes = 0
        """Bytes that stay allocated between cases: the batches of the group."""
        self._lost = False
        """Whether the device can run nothing more in this process."""
        self._released = False
        """Whether nothing was built since all was released: to look through all objects again would take 0.2 s."""
        self._left_open = False
        """Whether an error ended the last case. While the error is propagated, its frames hold models."""
        self._resources = ExitStack()
        self._resources.enter_context(backend.precision.applied())
        if backend.execution.compiles:
            self._resources.enter_context(compiling.compiling())
        self._heap = Heap()
        self._resources.callback(partial(self._heap.thaw, anyway=True))

    def take_rounds_by(self, take: Take, *, beside: int = 0) -> None:
        """Replace the function that takes the rounds of a case and its reference.

        Args:
            take: The function.
            beside: Processes of ours that use the same device meanwhile, as in lock-step. They are no neighbours.
        """
        self._take = take
        self._probes.beside = beside

    def tell_passes(self, tell: Callable[[str], object]) -> None:
        """Call a function with the name of each pass before it begins. It is never called during rounds."""
        self._tell = tell

    def close(self) -> None:
        """Release everything that is held."""
        self.release()
        self._probes.close()
        self._resources.close()

    def fingerprint(self) -> dict[str, str]:
        """Return the properties that must be equal for absolute times to be compared."""
        backend = self.backend
        return {**fingerprint(backend.device, threads=backend.settings.threads), **self._probes.fingerprint()}

    def release(self) -> None:
        """Release what the cases of the present group share."""
        self._held.drop()
        self._forget()
        if self.backend.execution.compiles:
            compiling.reset()
        self._heap.thaw()
        self._clean_up()
        self._heap.freeze()
        self._released = True

    def measure(
        self,
        case: Case,
        benchmark: Benchmark,
        *,
        id: str,  # noqa: A002 - the record's own word
        observer: Observer,
        records: Iterable[Record] = (),
        only_time: bool = False,
    ) -> Record:
        """Measure one case and return its record. If it cannot be measured, the record holds the reason.

        Args:
            case: The case.
            benchmark: The workload or study that measures it.
            id: The id of the case in its record.
            observer: Wraps the timed rounds.
            records: The records of the run so far, which a study may read.
            only_time: Whether an earlier process has proven and counted the case, and only its time is wanted.

        Raises:
            PoisonedError: this process cannot use the device any more.
            Exception: any other error, such as a fault of a method's code.
        """
        self._watch, self._changes = Stopwatch(tell=self._tell), ()
        blank = self.blank(case, benchmark, id)
        if reason := benchmark.unsupported_case(case, self.backend):
            return replace(blank, status="unsupported", reason=reason)
        if self._left_open:
            self._heap.thaw(anyway=True)
            self._held_bytes = self._clean_up()
        self._left_open = True
        measurement = Measurement(
            blank=blank, observer=observer, watch=self._watch, take_passes=self._take_passes, only_time=only_time
        )
        bench = Workbench(self.backend, self._clock, tuple(records), self._shared)
        with self._guarded():
            attempt = partial(self._outcome, case, benchmark, bench, measurement)
            record = with_room(attempt)
            if record.status == "out-of-memory" and self._make_room():
                record = with_room(attempt)
        self._left_open = False
        held_bytes, self._held_bytes = self._held_bytes, self._clean_up()
        left = "" if benchmark.keeps_data else leak(id, held_bytes, self._held_bytes)
        return replace(record, warnings=(*record.warnings, *self._changes, *filter(None, [left])))

    def failed(self, case: Case, benchmark: Benchmark, error: BaseException, *, id: str) -> Record:  # noqa: A002 - see above
        """Return the record of a case for which `measure` raised `error`, with the pass and the changes of state."""
        where = self._watch.current
        place = f" (in {where})" if where and not isinstance(error, PoisonedError) else ""
        reason = visible(f"{one_line(error)}{place}")
        return replace(self.blank(case, benchmark, id), status="failed", reason=reason, warnings=self._changes)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Put back the state that a case changes, however it ends, and remember the changes.

        If there are any, objects that cases share are dropped and built anew.
        """
        before = look(self._facets)
        try:
            yield
        finally:
            self._changes = put_back((*before, *(() if self._lost else self._held.batches)))
            if self._changes:
                self._forget()

    def _forget(self) -> None:
        """Drop what cases of a group share, except its batches and its template."""
        self._passes.forget()
        self._shared.clear()

    def _outcome(self, case: Case, benchmark: Benchmark, bench: Workbench, measurement: Measurement) -> Record:
        """Return the record of a case, or a record with the reason why it has no numbers."""
        blank = measurement.blank
        try:
            with compiling.faults():
                return benchmark.measure(case, bench, measurement)
        except UnsupportedError as error:
            return replace(blank, status="unsupported", reason=str(error))
        except ValidityError as error:
            return replace(blank, status="invalid", reason=str(error))
        except UserError as error:
            return replace(blank, status="failed", reason=str(error))
        except PoisonedError:
            raise
        except Exception as error:
            failure = classify(error, measurement.watch.current, alive=partial(context_is_alive, self.backend.device))
            if failure.kind == "poison":
                self._lost = True
                raise PoisonedError(failure.reason) from error
            if failure.kind == "failed":
                raise
            status: Status = "out-of-memory" if failure.kind == "out-of-memory" else "failed"
            return replace(blank, status=status, reason=failure.reason)

    def try_once(self, case: Case, benchmark: Benchmark) -> None:
        """Run the shortest version of a case, and measure nothing.

        Raises:
            UnsupportedError: the case cannot be run; says why.
        """
        if reason := benchmark.unsupported_case(case, self.backend):
            raise UnsupportedError(reason)
        with self._guarded(), compiling.faults():
            benchmark.try_once(case, Workbench(self.backend, self._clock, (), self._shared), self._take_round)

    def blank(self, case: Case, benchmark: Benchmark, id: str) -> Record:  # noqa: A002 - the record's own word
        """Return the record of a case without metrics."""
        return Record(
            id=id,
            workload=benchmark.name,
            method=str(case.method),
            task=case.task,
            batch_size=case.batch_size,
            seq_len=benchmark.length(case, self.backend),
            status="ok",
            variant=dict(case.variant),
        )

    def _clean_up(self) -> int:
        """Release the memory of the last case, and return the bytes on the device that stay without being references.

        Raises:
            PoisonedError: an asynchronous error of the device shows only now.
        """
        self._released = False
        if self._lost:  # the device would raise again, and hide the error that names the case
            return self._held_bytes
        try:
            self._passes.forget(above_bytes=self._probes.room())
            left_bytes = release(self.backend.device) - round(self._passes.allocated_bytes())
            self._held.note()
        except RuntimeError as error:
            if not is_sticky(error):
                raise
            self._lost = True
            raise PoisonedError(classify(error, "clean-up").reason) from error
        self._heap.settle()
        return left_bytes

    def _make_room(self) -> bool:
        """Take from the device what only saves time, since a case did not fit beside it; tell whether it was."""
        dropped = [self._passes.forget(), self._held.evict()]
        release(self.backend.device)
        self._held.note()
        return any(dropped)

    def _take_round(self, workload: Workload, case: Case) -> None:
        subject = self._group_of(case).subject(case.method)
        with closing(workload.trial(subject)) as trial:
            self._passes.timed(trial)(0)

    def _take_passes(self, workload: Workload, case: Case, measurement: Measurement) -> Record:
        watch = measurement.watch
        with watch.during("build"):
            group = self._group_of(case)
            subject = group.subject(case.method)
        with watch.during("validity"):
            proof = None if measurement.only_time else self._proofs.of(case, subject)
            generation = self._proofs.of_generation(case, subject) if proof and workload.generates else None
        with watch.during("build"):
            seed_generators(self.backend.settings.seed)
            trial = workload.trial(subject)
        with closing(trial):
            measured = self._passes.measure(workload, trial, group, measurement=measurement, take=self._take)
        if proof is None:
            return replace(measured, passes_s=watch.seconds)
        with watch.during("own"):
            own = workload.own_metrics(subject)
        return replace(
            measured,
            metrics={**measured.metrics, **proof.metrics(), **own},
            passes_s=watch.seconds,
            warnings=(*proof.notes, *(generation.notes if generation else ()), *measured.warnings),
        )

    def _group_of(self, case: Case) -> Group:
        if group := self._held.of(case):
            return group
        before = self._held.with_task_of(case)
        if not self._released:
            self.release()
        self._released = False
        group, self._held_bytes = self._held.build(case, before)
        return group
