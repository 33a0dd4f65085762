"""Measures one case after the other: the passes in their order, and a record whatever happens."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from peftbench.cases import MethodSpec
from peftbench.errors import UnsupportedError, UserError, ValidityError
from peftbench.measure import counters, metrics, validity
from peftbench.measure.clock import clock_for
from peftbench.measure.device_memory import parts, parts_metrics, release
from peftbench.measure.estimate import quantiles
from peftbench.measure.failures import classify, context_is_alive
from peftbench.measure.resident import resident
from peftbench.measure.rounds import Plan, Rounds, TimedRound, interleave, undisturbed, warm_up
from peftbench.methods.base import head_names
from peftbench.record import Metric, Record

if TYPE_CHECKING:
    from peftbench.backend import Backend, Group
    from peftbench.cases import Case
    from peftbench.measure.clock import Timing
    from peftbench.workloads.base import Subject, Trial, Workload

PRESET_CPU_BUDGET_S: Final = 0.9
"""For the rounds of a case and its reference, preset on a CPU: the default matrix ends within minutes."""
BUDGET_S: Final = 5.0
"""The same for everything else."""
REFERENCE_METHODS: Final = {"base": MethodSpec("head"), "full": MethodSpec("full")}
"""What `--peftbench-reference` stands for; the base step trains the head on a frozen backbone."""

Observer = Callable[[TimedRound], TimedRound]
"""Wraps the timed rounds of a case, so that somebody else (pytest-benchmark) learns of each."""


class Take(Protocol):
    """Takes the rounds of a case."""

    def __call__(self, case: TimedRound, reference: TimedRound | None, plan: Plan, *, seed: str) -> Rounds:
        """Call both as often as the plan says."""
        ...


class PoisonedError(Exception):
    """The device can run nothing more in this process."""


@dataclass
class Stopwatch:
    """How long each pass of a case took, and which is under way."""

    seconds: dict[str, float] = field(default_factory=dict)
    current: str = ""

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Add what runs within to the pass called `name`."""
        self.current = name
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


class Runner:
    """Measures cases on one backend; keeps what the cases of a group share until another group begins."""

    def __init__(self, backend: Backend, *, session: str) -> None:
        self.backend = backend
        self.take: Take = interleave
        """How the rounds of a case and its reference are taken."""
        self._session = session
        self._clock = clock_for(backend.device)
        self._group: Group | None = None
        self._references: dict[str, Trial] = {}
        self._proofs: dict[tuple[MethodSpec, str], validity.Validity | ValidityError] = {}
        self._resources = ExitStack()
        self._resources.enter_context(backend.settings.precision.applied())
        self._resources.callback(gc.unfreeze)

    def close(self) -> None:
        """Forget everything that is held."""
        self.release()
        self._resources.close()

    def release(self) -> None:
        """Forget what the cases of the present group share."""
        self._group = None
        self._references.clear()
        self._proofs.clear()
        gc.unfreeze()
        self._clean_up()

    def measure(self, case: Case, workload: Workload, *, id: str, observer: Observer) -> Record:  # noqa: A002
        """Return what one case yields; a case that cannot be measured is a record with the reason.

        Raises:
            UserError: an override that does not fit the model.
            PoisonedError: the device is of no more use to this process.
            Exception: a fault that is neither the case's nor the machine's.
        """
        blank = self.blank(case, workload, id)
        if reason := self._unsupported(case, workload):
            return replace(blank, status="unsupported", reason=reason)
        watch = Stopwatch()
        try:
            return self._passes(case, workload, blank, observer, watch)
        except UnsupportedError as error:
            return replace(blank, status="unsupported", reason=str(error))
        except ValidityError as error:
            return replace(blank, status="invalid", reason=str(error))
        except UserError:
            raise
        except Exception as error:
            failure = classify(error, watch.current, alive=partial(context_is_alive, self.backend.device))
            if failure.kind == "poison":
                raise PoisonedError(failure.reason) from error
            if failure.kind != "out-of-memory":
                raise
            return replace(blank, status="out-of-memory", reason=failure.reason)
        finally:
            self._clean_up()

    def try_once(self, case: Case, workload: Workload) -> None:
        """Run one round and measure nothing."""
        if not self._unsupported(case, workload):
            trial = workload.trial(self._group_of(case).subject(case.method))
            self._timed(trial)(0)

    def blank(self, case: Case, workload: Workload, id: str) -> Record:  # noqa: A002 - the record's own word
        """Return the record of a case of which nothing is known yet."""
        return Record(
            id=id,
            workload=workload.name,
            method=str(case.method),
            task=case.task,
            batch_size=case.batch_size,
            seq_len=self.backend.seq_len(self.backend.catalogue.task(case.task)),
            status="ok",
        )

    def _clean_up(self) -> None:
        """Give back what the last case held; what is still there then is not looked at again after each case.

        Without freezing, each collection walks through all that torch and transformers have ever made (0.2 s).
        """
        release(self.backend.device)
        gc.freeze()

    def _unsupported(self, case: Case, workload: Workload) -> str:
        backend = self.backend
        method, task = backend.catalogue.method(case.method.name), backend.catalogue.task(case.task)
        return method.unsupported(task, architecture=backend.config.model_type) or workload.unsupported(
            method, backend.settings.precision
        )

    def _passes(self, case: Case, workload: Workload, blank: Record, observer: Observer, watch: Stopwatch) -> Record:
        import torch

        with watch.during("build"):
            group = self._group_of(case)
            subject = group.subject(case.method)
            heads = head_names(group.template)
        with watch.during("validity"):
            proof = self._prove(case, subject)
        with watch.during("build"):
            torch.manual_seed(self.backend.settings.seed)
            trial = workload.trial(subject)
        timed = self._timed(trial)
        with watch.during("first step"):
            first_s = timed(0).wall_s
        with watch.during("counters"):
            timed(0)
            counted = counters.count(partial(timed, 0), trial.model, heads=heads)
        with watch.during("memory"):
            memory = self._memory(trial, timed, counted.metrics())
        with watch.during("time"):
            reference = self._reference(workload, group)
            with undisturbed():
                warm_up(timed)
                rounds = self.take(observer(timed), reference, self._plan(), seed=blank.id)
        watch.seconds["rounds"] = rounds.timed_s
        times = metrics.time_metrics(rounds, phases=workload.phases, tokens=group.tokens, first_s=first_s)
        return replace(
            blank,
            metrics={**times, **memory, **counted.metrics(), **proof.metrics()},
            launches=(metrics.launch(rounds, session=self._session),),
            operators=counted.operators.operators,
            operator_hash=counted.operators.operator_hash,
            modules=counted.parameters.modules,
            passes_s=watch.seconds,
            stop=rounds.stop,
            quantiles_s=quantiles([timing.wall_s for timing in rounds.case]),
            warnings=proof.notes,
        )

    def _prove(self, case: Case, subject: Subject) -> validity.Validity:
        """Check once that the method does what it claims to; the other workloads of the group rely on it."""
        key = (case.method, case.group)
        if key not in self._proofs:
            try:
                self._proofs[key] = validity.check(subject)
            except ValidityError as error:
                self._proofs[key] = error
        proof = self._proofs[key]
        if isinstance(proof, ValidityError):
            raise proof
        return proof

    def _memory(self, trial: Trial, timed: TimedRound, counted: Mapping[str, Metric]) -> dict[str, Metric]:
        """Return what the machine says, and the exact sum of what is held and what a round adds at the most."""
        owned = parts(trial.model, trial.optimizer)
        held = owned.weights_bytes + owned.gradients_bytes + owned.optimizer_bytes
        peak = Metric(held + (counted["peak_live_bytes"].value or 0), "B")
        return {"peak_bytes": peak, **parts_metrics(owned), **resident(partial(timed, 0)).metrics()}

    def _reference(self, workload: Workload, group: Group) -> TimedRound | None:
        method = REFERENCE_METHODS.get(self.backend.settings.reference)
        if method is None or not workload.paired:
            return None
        if workload.name not in self._references:
            trial = self._references[workload.name] = workload.trial(group.subject(method))
            warm_up(self._timed(trial))
        return self._timed(self._references[workload.name])

    def _plan(self) -> Plan:
        settings = self.backend.settings
        quick = self.backend.model.random_weights and self.backend.device.type == "cpu"
        budget_s = PRESET_CPU_BUDGET_S if quick else BUDGET_S
        return Plan(budget_s=settings.max_time or budget_s, exactly=settings.rounds)

    def _group_of(self, case: Case) -> Group:
        if self._group is None or (self._group.task.name, self._group.batch_size) != (case.task, case.batch_size):
            self.release()
            self._group = self.backend.group(case.task, case.batch_size)
        return self._group

    def _timed(self, trial: Trial) -> TimedRound:
        """Return the trial's round as one call that says how long it took; preparation stays outside."""
        run, prepare, time_run = trial.run, trial.prepare, self._clock.time

        def timed(number: int) -> Timing:
            if prepare is not None:
                prepare(number)
            return time_run(partial(run, number))

        return timed
