"""Measures one case after the other: the passes in their order, and a record whatever happens."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from peftbench import compiling
from peftbench.environment import fingerprint
from peftbench.errors import UnsupportedError, UserError, ValidityError
from peftbench.measure.clock import clock_for
from peftbench.measure.device_memory import leak, release
from peftbench.measure.failures import PoisonedError, classify, context_is_alive, is_sticky
from peftbench.measure.probes import probes_for
from peftbench.measure.rounds import interleave
from peftbench.measure.stopwatch import Stopwatch
from peftbench.passes import Passes
from peftbench.proofs import Proofs
from peftbench.record import Record
from peftbench.workloads.study import Desk, Study, recorded

if TYPE_CHECKING:
    from peftbench.backend import Backend, Group
    from peftbench.cases import Case
    from peftbench.passes import Observer, Take
    from peftbench.workloads.base import Workload


class Runner:
    """Measures cases on one backend; keeps what the cases of a group share until another group begins."""

    def __init__(self, backend: Backend, *, session: str) -> None:
        self.backend = backend
        self.take: Take = interleave
        """How the rounds of a case and its reference are taken."""
        self._clock = clock_for(backend.device)
        self._probes = probes_for(backend.device)
        self._group: Group | None = None
        self._passes = Passes(backend, clock=self._clock, probes=self._probes, session=session)
        self._proofs = Proofs()
        self._shared: dict[str, object] = {}
        self._held_bytes = 0
        """What stays allocated between cases: the batches of the group."""
        self._lost = False
        """Whether the device can run nothing more in this process."""
        self._left_open = False
        """Whether an error ended the last case: as long as it is on its way, its frames hold models."""
        self._resources = ExitStack()
        self._resources.enter_context(backend.settings.precision.applied())
        if backend.settings.compile:
            self._resources.enter_context(compiling.compiling())
        self._resources.callback(gc.unfreeze)

    def close(self) -> None:
        """Forget everything that is held."""
        self.release()
        self._probes.close()
        self._resources.close()

    def fingerprint(self) -> dict[str, str]:
        """Return what must be equal for absolute times to be compared."""
        backend = self.backend
        return {**fingerprint(backend.device, threads=backend.settings.threads), **self._probes.fingerprint()}

    def release(self) -> None:
        """Forget what the cases of the present group share."""
        self._group = None
        self._passes.forget()
        self._shared.clear()
        if self.backend.settings.compile:
            compiling.reset()
        gc.unfreeze()
        self._clean_up()

    def measure(
        self,
        case: Case,
        workload: Workload,
        *,
        id: str,  # noqa: A002 - the record's own word
        observer: Observer,
        records: Iterable[Record] = (),
    ) -> Record:
        """Return what one case yields; a case that cannot be measured is a record with the reason.

        Args:
            case: What is measured.
            workload: How.
            id: What the case is called in its record.
            observer: Wraps the timed rounds.
            records: What the run has yielded so far; a study may look at them.

        Raises:
            UserError: a study that cannot be done as asked.
            PoisonedError: the device is of no more use to this process.
            Exception: a fault that is neither the case's nor the machine's.
        """
        blank = self.blank(case, workload, id)
        if reason := self._unsupported(case, workload):
            return replace(blank, status="unsupported", reason=reason)
        if self._left_open:
            gc.unfreeze()
            self._held_bytes = self._clean_up()
        self._left_open = True
        record = self._outcome(case, workload, blank, observer, records)
        self._left_open = False
        held_bytes, self._held_bytes = self._held_bytes, self._clean_up()
        left = "" if isinstance(workload, Study) else leak(id, held_bytes, self._held_bytes)  # studies share materials
        return replace(record, warnings=(*record.warnings, left)) if left else record

    def _outcome(
        self, case: Case, workload: Workload, blank: Record, observer: Observer, records: Iterable[Record]
    ) -> Record:
        """Return what a case yields, or the record with the reason why it yields nothing."""
        watch = Stopwatch()
        try:
            with compiling.faults():
                if isinstance(workload, Study):
                    with watch.during("study"):
                        return recorded(workload, case, blank, self._desk(self.backend, records), observer)
                return self._measured(case, workload, blank, observer, watch)
        except UnsupportedError as error:
            return replace(blank, status="unsupported", reason=str(error))
        except ValidityError as error:
            return replace(blank, status="invalid", reason=str(error))
        except UserError as error:
            if isinstance(workload, Study):  # its material is the run's: none of the others could go on either
                raise
            return replace(blank, status="failed", reason=str(error))
        except PoisonedError:
            raise
        except Exception as error:
            failure = classify(error, watch.current, alive=partial(context_is_alive, self.backend.device))
            if failure.kind == "poison":
                self._lost = True
                raise PoisonedError(failure.reason) from error
            if failure.kind != "out-of-memory":
                raise
            return replace(blank, status="out-of-memory", reason=failure.reason)

    def try_once(self, case: Case, workload: Workload) -> None:
        """Run one round, or the least of a study, and measure nothing.

        Raises:
            UnsupportedError: the case cannot be run; says why.
        """
        if reason := self._unsupported(case, workload):
            raise UnsupportedError(reason)
        if isinstance(workload, Study):
            workload.conduct(case, self._desk(self.backend.rehearsing(), ()))
            return
        subject = self._group_of(case).subject(case.method)
        with compiling.faults(), closing(workload.trial(subject)) as trial:
            self._passes.timed(trial)(0)

    def blank(self, case: Case, workload: Workload, id: str) -> Record:  # noqa: A002 - the record's own word
        """Return the record of a case of which nothing is known yet."""
        return Record(
            id=id,
            workload=workload.name,
            method=str(case.method),
            task=case.task,
            batch_size=case.batch_size,
            seq_len=max(self.backend.seq_len(self.backend.catalogue.task(name)) for name in case.tasks),
            status="ok",
            variant=dict(case.variant),
        )

    def _clean_up(self) -> int:
        """Give back what the last case held, and return the bytes that stay allocated on the device.

        What is still there then is not looked at again after each case.

        Without freezing, each collection walks through all that torch and transformers have ever made (0.2 s).

        Raises:
            PoisonedError: an error of the device that nobody had waited for shows now.
        """
        if self._lost:  # the device would only raise the error again, in place of the one that says which case it was
            return self._held_bytes
        if self._probes.exclusive:
            self._passes.forget()
        try:
            left_bytes = release(self.backend.device)
        except RuntimeError as error:
            if not is_sticky(error):
                raise
            self._lost = True
            raise PoisonedError(classify(error, "clean-up").reason) from error
        gc.freeze()
        return left_bytes

    def _unsupported(self, case: Case, workload: Workload) -> str:
        backend = self.backend
        if isinstance(workload, Study):
            return workload.unsupported_case(case, backend)
        method, task = backend.catalogue.method(case.method.name), backend.catalogue.task(case.task)
        return method.unsupported(task, architecture=backend.config.model_type) or workload.unsupported(
            method, backend.settings.precision
        )

    def _measured(self, case: Case, workload: Workload, blank: Record, observer: Observer, watch: Stopwatch) -> Record:
        import torch

        with watch.during("build"):
            group = self._group_of(case)
            subject = group.subject(case.method)
        with watch.during("validity"):
            proof = self._proofs.of(case, subject)
        with watch.during("build"):
            torch.manual_seed(self.backend.settings.seed)
            trial = workload.trial(subject)
        with closing(trial):
            measured = self._passes.measure(
                workload, trial, group, blank=blank, observer=observer, take=self.take, watch=watch
            )
        with watch.during("own"):
            own = workload.own_metrics(subject)
        return replace(
            measured,
            metrics={**measured.metrics, **proof.metrics(), **own},
            passes_s=watch.seconds,
            warnings=(*proof.notes, *measured.warnings),
        )

    def _desk(self, backend: Backend, records: Iterable[Record]) -> Desk:
        return Desk(backend, self._clock, tuple(records), self._shared)

    def _group_of(self, case: Case) -> Group:
        if self._group is None or (self._group.task.name, self._group.batch_size) != (case.task, case.batch_size):
            self.release()
            self._group = self.backend.group(case.task, case.batch_size)
            self._held_bytes = release(self.backend.device)
        return self._group
