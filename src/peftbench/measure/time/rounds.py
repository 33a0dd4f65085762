"""The time pass: rounds of a case and of its reference in alternation, until the ratio is known or the budget is spent.

Each round times both, in random order, so that whatever drifts hits both alike, and what is left of the difference
after dividing the two is the case's own.
"""

from __future__ import annotations

import gc
import math
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

from peftbench.measure.time.clock import Timing
from peftbench.records.estimate import median_estimate

TimedRound = Callable[[int], Timing]
"""Runs round i and says how long it took."""
Observer = Callable[[TimedRound], TimedRound]
"""Wraps the timed rounds of a case, so that somebody else (pytest-benchmark) learns of each."""
Stop = Literal["precision", "budget", "rounds"]

LEAST_ROUNDS: Final = 10
"""An interval from fewer rounds says little: they are not precise enough, however narrow it is."""
MOST_ROUNDS: Final = 500
CONTROL_ROUNDS: Final = 3
"""Rounds that are taken whatever they cost: fewer have no median."""


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """When to stop, and what comes between rounds."""

    budget_s: float
    """For the rounds of case and reference together, and for what prepares them."""
    exactly: int | None = None
    """This many rounds, whatever they cost and however precise they are."""
    precision: float = 0.005
    """Half-width of the interval of the median log ratio (or log time, if there is no reference) that is enough."""
    after: Callable[[int], object] | None = None
    """Called with the number of each round when it is over; no part of it, nor of the budget."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """What the time pass yielded, in order of time."""

    case: tuple[Timing, ...]
    reference: tuple[Timing, ...]
    """As many as of the case, or none."""
    stop: Stop

    @property
    def log_ratios(self) -> tuple[float, ...]:
        """Return ln(time of the case / time of the reference), a number a round."""
        return tuple(
            math.log(case.wall_s / reference.wall_s) for case, reference in zip(self.case, self.reference, strict=True)
        )

    @property
    def timed_s(self) -> float:
        """Seconds that were spent inside rounds."""
        return sum(timing.wall_s for timing in (*self.case, *self.reference))


def interleave(case: TimedRound, reference: TimedRound | None, plan: RoundPlan, *, seed: str) -> Rounds:
    """Time rounds of `case` and `reference` in alternation, the order within a round drawn anew each time."""
    order = random.Random(seed)
    timed: tuple[list[Timing], list[Timing]] = ([], [])
    log_values: list[float] = []
    spent_s = 0.0
    while (stop := _stop(plan, log_values, spent_s)) is None:
        number = len(log_values)
        if reference is None:
            timed[0].append(case(number))
        elif order.random() < 0.5:  # noqa: PLR2004 - a fair coin
            timed[0].append(case(number))
            timed[1].append(reference(number))
        else:
            timed[1].append(reference(number))
            timed[0].append(case(number))
        latest = [timings[-1] for timings in timed if timings]
        log_values.append(math.log(latest[0].wall_s / (latest[1].wall_s if reference else 1.0)))
        spent_s += sum(timing.wall_s + timing.prepared_s for timing in latest)
        if plan.after is not None:
            plan.after(number)
    return Rounds(case=tuple(timed[0]), reference=tuple(timed[1]), stop=stop)


def warm_up(run: TimedRound, *, least: int = 3, most: int = 20, tolerance: float = 0.05) -> int:
    """Run rounds until the last one is no longer the fastest by more than `tolerance`; return how many it took."""
    fastest_s = math.inf
    for number in range(most):
        time_s = run(number).wall_s
        if number + 1 >= least and time_s >= fastest_s * (1 - tolerance):
            return number + 1
        fastest_s = min(fastest_s, time_s)
    return most


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the garbage collector, tracers and profilers out of what runs within."""
    tracer, profiler, collecting = sys.gettrace(), sys.getprofile(), gc.isenabled()
    gc.collect()
    gc.disable()
    sys.settrace(None)
    sys.setprofile(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
        sys.setprofile(profiler)
        if collecting:
            gc.enable()


def _stop(plan: RoundPlan, log_values: list[float], spent_s: float) -> Stop | None:
    count = len(log_values)
    if plan.exactly is not None:
        return "rounds" if count >= plan.exactly else None
    if count < CONTROL_ROUNDS:
        return None
    if spent_s * (count + 1) / count > plan.budget_s:
        return "budget"
    if count >= LEAST_ROUNDS and median_estimate(log_values).half_width <= plan.precision:
        return "precision"
    return "rounds" if count >= MOST_ROUNDS else None
