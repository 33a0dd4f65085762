"""The passes of one case, each apart from the others: the cold first step, counters, memory, time, energy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from peftbench.devices import compiling
from peftbench.devices.failures import is_out_of_memory
from peftbench.measure import metrics
from peftbench.measure.counters import counting as counters
from peftbench.measure.counters.parameters import count_parameters
from peftbench.measure.memory.device_memory import release
from peftbench.measure.time.anchor import Anchor
from peftbench.measure.time.rounds import RoundPlan, Rounds, TimedRound, undisturbed, warm_up
from peftbench.measure.trial import nothing
from peftbench.methods.base import head_names
from peftbench.records.estimate import quantiles
from peftbench.records.record import Metric, Record
from peftbench.run.references import ALONE, References

if TYPE_CHECKING:
    from peftbench.measure.probes import Probes
    from peftbench.measure.time.clock import Clock, Timing
    from peftbench.measure.time.stopwatch import Stopwatch
    from peftbench.measure.trial import Mark, Trial
    from peftbench.workloads.backend import Backend, Group
    from peftbench.workloads.base import Measurement, Workload

PRESET_CPU_BUDGET_S: Final = 0.9
"""For the rounds of a case and its reference, preset on a CPU: the default matrix ends within minutes."""
BUDGET_S: Final = 5.0
"""The same for everything else."""


class Take(Protocol):
    """Takes the rounds of a case."""

    def __call__(self, case: TimedRound, reference: TimedRound | None, plan: RoundPlan, *, seed: str) -> Rounds:
        """Call both as often as the plan says."""
        ...


class Passes:
    """Takes the passes of cases on one backend."""

    def __init__(self, backend: Backend, *, clock: Clock, probes: Probes, session: str) -> None:
        self._backend = backend
        self._clock = clock
        self._probes = probes
        self._session = session
        self._references = References(backend.settings.reference, self.timed)

    def forget(self) -> None:
        """Let go of the references, which a group of cases shares."""
        self._references.drop()

    def timed(self, trial: Trial) -> TimedRound:
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

    def measure(
        self,
        workload: Workload,
        trial: Trial,
        group: Group,
        *,
        measurement: Measurement,
        take: Take,
    ) -> Record:
        """Return the record of a trial.

        Args:
            workload: What the trial is of.
            trial: What is run.
            group: What the case shares with others.
            measurement: The record so far, and who learns of the passes.
            take: How rounds of case and reference are taken.
        """
        blank, watch = measurement.blank, measurement.watch
        timed = self.timed(trial)
        seed = f"{self._backend.settings.seed} {blank.id}"
        heads = head_names(group.template)
        with watch.during("first step"):
            first_s, compilation = self._first(workload, self.timed(_telling(trial, workload.phases, watch)))
        with watch.during("counters"):
            counted = self._count(workload, trial, heads)
            parameters = counted.parameters if counted else count_parameters(trial.model, heads)
        with watch.during("memory"):
            memory = self._memory(trial, timed, counted)
        with watch.during("time"), undisturbed():
            watch.current = "warm-up"
            reference, alone = self._warmed(timed, workload, group)
            anchor = Anchor(self._clock, self._backend.device) if reference else None
            plan = self._plan(after=anchor.after if anchor else None)
            watch.current = "timed rounds"
            rounds, state = self._probes.rounds(lambda: take(measurement.observer(timed), reference, plan, seed=seed))
        watch.seconds["rounds"] = rounds.timed_s
        kept = metrics.launch(rounds, session=self._session, anchor_s=anchor.median_s if anchor else None)
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

    def _first(self, workload: Workload, timed: TimedRound) -> tuple[float, compiling.Compilation | None]:
        """Return how long the first, cold round takes, and what is compiled in it."""
        if not (self._backend.settings.compile and workload.runs_model):
            return timed(0).wall_s, None
        with compiling.from_scratch() as compilation:
            return timed(0).wall_s, compilation()

    def _count(self, workload: Workload, trial: Trial, heads: frozenset[str]) -> counters.Counters | None:
        """Return what the fullest round does, warm, preparation left out.

        A model that is compiled runs as it was written.
        """
        if not workload.counted:
            return None
        ready_after_previous = partial(trial.ready_after_previous, trial.representative)
        run = partial(trial.run, trial.representative, nothing)
        with compiling.eager() if self._backend.settings.compile else nullcontext():
            ready_after_previous()
            run()
            return counters.count(run, trial.model, heads=heads, reset=ready_after_previous)

    def _memory(self, trial: Trial, timed: TimedRound, counted: counters.Counters | None) -> dict[str, Metric]:
        """Return what the device says, and the exact sum of what is held and what a round adds at the most."""
        found = self._probes.memory(trial, timed)
        if counted is None:
            return found
        held = sum(found[name].value or 0 for name in ("weights_bytes", "optimizer_bytes"))
        return {"peak_bytes": Metric(held + counted.operators.peak_live_bytes, "B"), **found}

    def _warmed(self, timed: TimedRound, workload: Workload, group: Group) -> tuple[TimedRound | None, str]:
        """Warm up a case beside its reference, or alone where both do not fit; return reference and warning."""
        reference, alone = self._references.of(workload, group)
        try:
            warm_up(timed)
        except Exception as error:
            if reference is None or not is_out_of_memory(error):
                raise
        else:
            return reference, alone
        del reference  # it holds the model
        self._references.drop()
        release(self._backend.device)
        warm_up(timed)
        return None, ALONE

    def _plan(self, after: Callable[[int], object] | None) -> RoundPlan:
        settings = self._backend.settings
        quick = self._backend.model.random_weights and self._backend.device.type == "cpu"
        budget_s = PRESET_CPU_BUDGET_S if quick else BUDGET_S
        return RoundPlan(
            budget_s=budget_s if settings.max_time is None else settings.max_time,
            exactly=settings.rounds,
            after=after,
        )


def _telling(trial: Trial, phases: Sequence[str], watch: Stopwatch) -> Trial:
    """Return the trial, which tells the watch in which phase of its first round it is: what did not fit shows there."""

    def run(number: int, mark: Mark) -> object:
        coming = iter(phases)

        def enter() -> None:
            if phase := next(coming, ""):
                watch.current = f"first step ({phase})"

        def marked() -> None:
            mark()
            enter()

        enter()
        return trial.run(number, marked)

    return replace(trial, run=run)
