"""Measures one case after the other: the passes in their order, and a record whatever happens."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from peftbench import compiling
from peftbench.environment import fingerprint
from peftbench.errors import UnsupportedError, UserError, ValidityError
from peftbench.measure import anchor, counters, metrics
from peftbench.measure.clock import clock_for
from peftbench.measure.device_memory import release
from peftbench.measure.estimate import quantiles
from peftbench.measure.failures import PoisonedError, classify, context_is_alive
from peftbench.measure.parameters import count_parameters
from peftbench.measure.probes import probes_for
from peftbench.measure.rounds import Plan, Rounds, TimedRound, interleave, undisturbed, warm_up
from peftbench.measure.stopwatch import Stopwatch
from peftbench.methods.base import head_names
from peftbench.proofs import Proofs
from peftbench.record import Metric, Record
from peftbench.references import References
from peftbench.workloads.study import Desk, Study, recorded

if TYPE_CHECKING:
    from peftbench.backend import Backend, Group
    from peftbench.cases import Case
    from peftbench.measure.clock import Timing
    from peftbench.workloads.base import Trial, Workload

PRESET_CPU_BUDGET_S: Final = 0.9
"""For the rounds of a case and its reference, preset on a CPU: the default matrix ends within minutes."""
BUDGET_S: Final = 5.0
"""The same for everything else."""

Observer = Callable[[TimedRound], TimedRound]
"""Wraps the timed rounds of a case, so that somebody else (pytest-benchmark) learns of each."""


class Take(Protocol):
    """Takes the rounds of a case."""

    def __call__(self, case: TimedRound, reference: TimedRound | None, plan: Plan, *, seed: str) -> Rounds:
        """Call both as often as the plan says."""
        ...


class Runner:
    """Measures cases on one backend; keeps what the cases of a group share until another group begins."""

    def __init__(self, backend: Backend, *, session: str) -> None:
        self.backend = backend
        self.take: Take = interleave
        """How the rounds of a case and its reference are taken."""
        self._session = session
        self._clock = clock_for(backend.device)
        self._probes = probes_for(backend.device)
        self._group: Group | None = None
        self._references = References(backend.settings.reference, self._timed)
        self._proofs = Proofs()
        self._shared: dict[str, object] = {}
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
        self._references.drop()
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
            UserError: an override that does not fit the model.
            PoisonedError: the device is of no more use to this process.
            Exception: a fault that is neither the case's nor the machine's.
        """
        blank = self.blank(case, workload, id)
        if reason := self._unsupported(case, workload):
            return replace(blank, status="unsupported", reason=reason)
        watch = Stopwatch()
        try:
            with compiling.faults():
                if isinstance(workload, Study):
                    with watch.during("study"):
                        return recorded(workload, case, blank, self._desk(self.backend, records), observer)
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
            self._timed(trial)(0)

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

    def _clean_up(self) -> None:
        """Give back what the last case held; what is still there then is not looked at again after each case.

        Without freezing, each collection walks through all that torch and transformers have ever made (0.2 s).
        """
        release(self.backend.device)
        gc.freeze()

    def _unsupported(self, case: Case, workload: Workload) -> str:
        backend = self.backend
        if isinstance(workload, Study):
            return workload.unsupported_case(case, backend)
        method, task = backend.catalogue.method(case.method.name), backend.catalogue.task(case.task)
        return method.unsupported(task, architecture=backend.config.model_type) or workload.unsupported(
            method, backend.settings.precision
        )

    def _passes(self, case: Case, workload: Workload, blank: Record, observer: Observer, watch: Stopwatch) -> Record:
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
            measured = self._measured(workload, trial, group, blank=blank, observer=observer, watch=watch)
        with watch.during("own"):
            own = workload.own_metrics(subject)
        return replace(
            measured,
            metrics={**measured.metrics, **proof.metrics(), **own},
            passes_s=watch.seconds,
            warnings=(*proof.notes, *measured.warnings),
        )

    def _measured(
        self, workload: Workload, trial: Trial, group: Group, *, blank: Record, observer: Observer, watch: Stopwatch
    ) -> Record:
        timed = self._timed(trial)
        heads = head_names(group.template)
        with watch.during("first step"):
            first_s, compilation = self._first(workload, timed)
        with watch.during("counters"):
            counted = self._count(workload, trial, heads)
            parameters = counted.parameters if counted else count_parameters(trial.model, heads)
        with watch.during("memory"):
            memory = self._memory(trial, timed, counted)
        with watch.during("time"):
            reference, alone = self._references.of(workload, group)
            with undisturbed():
                warm_up(timed)
                rounds, state = self._probes.rounds(
                    lambda: self.take(observer(timed), reference, self._plan(), seed=blank.id)
                )
                anchor_s = anchor.anchor_s(self._clock, self.backend.device) if reference else None
        watch.seconds["rounds"] = rounds.timed_s
        kept = metrics.launch(rounds, session=self._session, anchor_s=anchor_s)
        tokens = group.tokens if workload.runs_model else None
        times = metrics.time_metrics(rounds, phases=workload.phases, tokens=tokens, first_s=first_s)
        with watch.during("energy"):
            after = self._probes.after(trial, time_s=kept.time_s, tokens=tokens)
        if compilation:
            times |= metrics.compile_metric(first_s, rounds)
        return replace(
            blank,
            metrics={
                **times,
                **memory,
                **(counted.metrics() if counted else parameters.metrics()),
                **state.metrics,
                **after.metrics,
            },
            launches=(kept,),
            operators=counted.operators.operators if counted else {},
            operator_hash=counted.operators.operator_hash if counted else "",
            modules=parameters.modules,
            stop=rounds.stop,
            quantiles_s=quantiles([timing.wall_s for timing in rounds.case]),
            warnings=(
                *(compilation.warnings if compilation else ()),
                *(f"{name} has no FLOP formula" for name in (counted.operators.uncounted if counted else ())),
                *filter(None, [alone]),
                *state.warnings,
                *after.warnings,
            ),
        )

    def _desk(self, backend: Backend, records: Iterable[Record]) -> Desk:
        return Desk(backend, self._clock, tuple(records), self._shared)

    def _first(self, workload: Workload, timed: TimedRound) -> tuple[float, compiling.Compilation | None]:
        """Return how long the first, cold round takes, and what is compiled in it."""
        if not (self.backend.settings.compile and workload.runs_model):
            return timed(0).wall_s, None
        with compiling.from_scratch() as compilation:
            return timed(0).wall_s, compilation()

    def _count(self, workload: Workload, trial: Trial, heads: frozenset[str]) -> counters.Counters | None:
        """Return what a warm round does, preparation left out; a model that is compiled runs as it was written."""
        if not workload.counted:
            return None
        prepare = partial(trial.prepare, 0) if trial.prepare else _nothing
        run = partial(trial.run, 0, _nothing)
        with compiling.eager() if self.backend.settings.compile else nullcontext():
            prepare()
            run()
            return counters.count(run, trial.model, heads=heads, reset=prepare)

    def _memory(self, trial: Trial, timed: TimedRound, counted: counters.Counters | None) -> dict[str, Metric]:
        """Return what the device says, and the exact sum of what is held and what a round adds at the most."""
        if self._probes.exclusive:
            self._references.drop()
        found = self._probes.memory(trial, timed)
        if counted is None:
            return found
        held = sum(found[name].value or 0 for name in ("weights_bytes", "optimizer_bytes"))
        return {"peak_bytes": Metric(held + counted.operators.peak_live_bytes, "B"), **found}

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
            if prepare is None:
                return time_run(partial(run, number))
            start = time.perf_counter()
            prepare(number)
            prepared_s = time.perf_counter() - start
            return replace(time_run(partial(run, number)), prepared_s=prepared_s)

        return timed


def _nothing() -> None:
    """Stand for a mark that nobody reads, and for a preparation that is not needed."""
