"""The passes of one case, one after the other: the cold first step, memory, counters, time, busy time, energy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol

from peftbench.devices import compiling
from peftbench.devices.failures import is_out_of_memory
from peftbench.measure import metrics
from peftbench.measure.counters import counting as counters
from peftbench.measure.counters.parameters import count_parameters
from peftbench.measure.findings import ProbeFindings
from peftbench.measure.memory.device_memory import release
from peftbench.measure.time.anchor import Anchor
from peftbench.measure.time.rounds import RoundPlan, Rounds, TimedRound, undisturbed, warm_up
from peftbench.measure.trial import nothing
from peftbench.measure.waiting import Waiting
from peftbench.methods.base import head_names
from peftbench.methods.preparation import preparation_s
from peftbench.records.estimate import quantiles
from peftbench.records.record import Metric, Record
from peftbench.run.references import ALONE, References

if TYPE_CHECKING:
    from peftbench.measure.findings import Probes
    from peftbench.measure.time.clock import Clock, Timing
    from peftbench.measure.time.stopwatch import Stopwatch
    from peftbench.measure.trial import Mark, Trial
    from peftbench.workloads.backend import Backend, Group
    from peftbench.workloads.base import Measurement, Workload

PRESET_CPU_BUDGET_S: Final = 0.9
"""Seconds for the rounds of a case and its reference with random weights on a CPU. The default matrix takes minutes."""
WARM_UP_ROUNDS: Final = 3
"""Rounds, at least, between the first, cold one and the timed ones."""
FEW_WARM_UP_ROUNDS: Final = 2
"""The same where memory and counters were taken in between: these passes have run the round four times."""
EAGER_COUNTERS: Final = "counters and peak_bytes describe the eager round"
CUDA_BUDGET_S: Final = 1.5
"""Seconds for the rounds of a case and its reference on CUDA, whatever its weights are."""
BUDGET_S: Final = 5.0
"""Seconds for the rounds of a case and its reference otherwise."""


class Take(Protocol):
    """Takes the rounds of a case."""

    def __call__(self, case: TimedRound, reference: TimedRound | None, plan: RoundPlan, *, seed: str) -> Rounds:
        """Call case and reference until the plan ends the rounds; `seed` determines their order."""
        ...


class Passes:
    """Takes the passes of cases on one backend."""

    def __init__(self, backend: Backend, *, clock: Clock, probes: Probes, session: str) -> None:
        self._backend = backend
        self._clock = clock
        self._probes = probes
        self._session = session
        self._references = References(backend.settings.reference, self.timed)

    def forget(self, *, above_bytes: float = -1.0) -> bool:
        """Drop the references that the cases of a group share, if they are larger; return whether there was one."""
        return self._references.drop(above_bytes=above_bytes)

    def allocated_bytes(self) -> float:
        """Return what the references that are kept hold in the device's allocator."""
        return self._references.allocated_bytes()

    def timed(self, trial: Trial) -> TimedRound:
        """Return a function that prepares and times one round of the trial. The preparation is timed apart."""
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
        """Take all passes of a trial and return its record.

        Args:
            workload: The workload of the trial.
            trial: The trial, not yet run.
            group: The group of the case.
            measurement: The blank record, the observer of rounds, and the stopwatch of passes.
            take: Takes the rounds of case and reference.
        """
        blank, watch = measurement.blank, measurement.watch
        timed, phases = self.timed(trial), workload.phases if trial.eager is None else ()
        seed = f"{self._backend.settings.seed} {blank.id}"
        with watch.during("first step"):
            first_s, compilation = self._first(workload, self.timed(_telling(trial, phases, watch)))
        facts = blank if measurement.only_time else self._facts(workload, trial, group, measurement)
        with watch.during("time"), undisturbed():
            watch.current = "warm-up"
            least = FEW_WARM_UP_ROUNDS if facts is not blank else WARM_UP_ROUNDS
            reference, alone = self._warmed(partial(warm_up, timed, least=least), workload, group)
            anchor = Anchor(self._clock, self._backend.device) if reference else None
            plan = self._plan(after=anchor.after if anchor else None)
            watch.current = "timed rounds"
            waiting = Waiting()
            rounds, state = self._probes.rounds(lambda: take(measurement.observer(timed), reference, plan, seed=seed))
            waits = waiting.findings()
        watch.seconds["rounds"] = rounds.timed_s
        kept = metrics.launch(rounds, session=self._session, anchor_s=anchor.median_s if anchor else None)
        tokens = workload.tokens(group)
        times = metrics.time_metrics(rounds, phases=phases, tokens=tokens, first_s=first_s)
        busy, energy = self._after(trial, measurement, phases=phases, time_s=kept.time_s, tokens=tokens)
        if compilation:
            times |= metrics.compile_metric(first_s, rounds)
        return replace(
            facts,
            metrics={**times, **trial.found(), **facts.metrics, **_together(state, waits, busy, energy)},
            launches=(kept,),
            stop=rounds.stop,
            quantiles_s=quantiles([timing.wall_s for timing in rounds.case]),
            warnings=_each_once(
                *(compilation.warnings if compilation else ()),
                *([EAGER_COUNTERS] if trial.eager else []),
                *facts.warnings,
                *filter(None, [alone]),
                *chain.from_iterable(one.warnings for one in (waits, state, busy, energy)),
            ),
            longest_kernels=busy.longest_kernels,
            timeline=energy.timeline,
        )

    def _after(
        self, trial: Trial, measurement: Measurement, *, phases: Sequence[str], time_s: float, tokens: float | None
    ) -> tuple[ProbeFindings, ProbeFindings]:
        """Return what the probes find in further rounds: busy time, and energy. A launch for time alone takes none."""
        if measurement.only_time:
            return ProbeFindings(), ProbeFindings()
        watch = measurement.watch
        with watch.during("busy"):
            busy = self._probes.busy(trial, phases=phases, time_s=time_s)
        with watch.during("energy"):
            energy = self._probes.energy(trial, tokens=tokens)
        return busy, energy

    def _facts(self, workload: Workload, trial: Trial, group: Group, measurement: Measurement) -> Record:
        """Return the record of a trial with all metrics that need no clock: counters, parameters and memory."""
        watch = measurement.watch
        heads = head_names(group.template)
        with watch.during("memory"):
            memory = self._probes.memory(trial)
        with watch.during("counters"):
            counted = self._count(workload, trial, heads)
            parameters = counted.parameters if counted else count_parameters(trial.model, heads)
        return replace(
            measurement.blank,
            metrics={
                **_peak(trial, memory, counted),
                **memory,
                **trial.metrics,
                **(counted.metrics() if counted else parameters.metrics()),
                **metrics.preparation_metric(preparation_s(trial.model)),
            },
            operators=counted.operators.operators if counted else {},
            operator_hash=counted.operators.operator_hash if counted else "",
            longest_operators=counted.operators.longest if counted and self._backend.device.type == "cpu" else None,
            modules=parameters.modules,
            warnings=tuple(f"{name} has no FLOP formula" for name in (counted.operators.uncounted if counted else ())),
        )

    def _first(self, workload: Workload, timed: TimedRound) -> tuple[float, compiling.Compilation | None]:
        """Return the time of the first, cold round, and what it compiled (None if models are not compiled)."""
        if not (self._backend.execution.compiles and workload.runs_model):
            return timed(0).wall_s, None
        with compiling.from_scratch() as compilation:
            return timed(0).wall_s, compilation()

    def _count(self, workload: Workload, trial: Trial, heads: frozenset[str]) -> counters.Counters | None:
        """Return the counters of a warm representative round, without its preparation; None if rounds differ.

        The memory pass has run such a round. A compiled model, and a captured round, run as eager code here.
        """
        if not workload.counted:
            return None
        ready_after_previous = partial(trial.ready_after_previous, trial.representative)
        run = partial(trial.eager or trial.run, trial.representative, nothing)
        if not self._backend.execution.compiles:
            return counters.count(run, trial.model, heads=heads, reset=ready_after_previous)
        with compiling.eager():
            ready_after_previous()
            run()  # nothing has run the code of a compiled model yet
            return counters.count(run, trial.model, heads=heads, reset=ready_after_previous)

    def _warmed(self, warm: Callable[[], object], workload: Workload, group: Group) -> tuple[TimedRound | None, str]:
        """Warm up a case beside its reference, or alone if both do not fit. Return reference and warning."""
        reference, alone = self._references.of(workload, group)
        try:
            warm()
        except Exception as error:
            if reference is None or not is_out_of_memory(error):
                raise
        else:
            return reference, alone
        del reference  # it refers to the reference's model
        self._references.drop()
        release(self._backend.device)
        warm()
        return None, ALONE

    def _plan(self, after: Callable[[int], object] | None) -> RoundPlan:
        settings = self._backend.settings
        return RoundPlan(
            budget_s=budget_s(self._backend),
            exactly=settings.rounds,
            after=after,
        )


def budget_s(backend: Backend) -> float:
    """Return the seconds for the rounds of a case and its reference."""
    if backend.settings.max_time is not None:
        return backend.settings.max_time
    if backend.device.type == "cuda":
        return CUDA_BUDGET_S
    return PRESET_CPU_BUDGET_S if backend.model.random_weights else BUDGET_S


def _peak(trial: Trial, memory: Mapping[str, Metric], counted: counters.Counters | None) -> dict[str, Metric]:
    """Return `peak_bytes`: weights, optimizer state, a cache that is kept between rounds, and the peak of a round."""
    if counted is None:
        return {}
    held = sum(memory[name].value or 0 for name in ("weights_bytes", "optimizer_bytes")) + trial.cache_bytes
    return {"peak_bytes": Metric(held + counted.operators.peak_live_bytes, "B")}


def _together(*findings: ProbeFindings) -> dict[str, Metric]:
    return {name: metric for one in findings for name, metric in one.metrics.items()}


def _each_once(*lines: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(lines))


def _telling(trial: Trial, phases: Sequence[str], watch: Stopwatch) -> Trial:
    """Return a trial that reports the phase of its first round to the watch, so that a failure can name the phase."""

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
