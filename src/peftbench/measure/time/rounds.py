"""The time pass: rounds of a case and of its reference in alternation, until the ratio is known or the budget is spent.

Each round times both, in random order. A drift of the machine then slows both alike, and the ratio cancels it.
"""

from __future__ import annotations

import gc
import math
import random
import sys
from bisect import insort
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

from peftbench.measure.time.clock import Timing
from peftbench.records.estimate import median_estimate

TimedRound = Callable[[int], Timing]
"""Runs round i and returns its timing."""
Observer = Callable[[TimedRound], TimedRound]
"""Wraps the timed round of a case, so that pytest-benchmark sees each timing."""
Stop = Literal["precision", "budget", "rounds"]

LEAST_ROUNDS: Final = 10
"""With fewer rounds the precision does not count as reached, however narrow the interval is."""
MOST_ROUNDS: Final = 500
CONTROL_ROUNDS: Final = 3
"""Rounds that are taken even if the budget is spent, so that there is a median."""


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """When the rounds end, and what is called after each."""

    budget_s: float
    """Seconds for the rounds of case and reference together, and for their preparation."""
    exactly: int | None = None
    """Number of rounds to take; budget and precision are then ignored. None: they decide."""
    precision: float = 0.005
    """Rounds end at this half-width of the interval of the median log ratio (log time if there is no reference)."""
    after: Callable[[int], object] | None = None
    """Called after each round with its index. Its time counts neither to the round nor to the budget."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """The timings of a time pass, in order of time."""

    case: tuple[Timing, ...]
    reference: tuple[Timing, ...]
    """As many timings as of the case; empty if there is no reference."""
    stop: Stop

    @property
    def log_ratios(self) -> tuple[float, ...]:
        """Return ln(time of the case / time of the reference), one number for each round."""
        return tuple(
            math.log(case.wall_s / reference.wall_s) for case, reference in zip(self.case, self.reference, strict=True)
        )

    @property
    def timed_s(self) -> float:
        """Seconds inside the rounds of case and reference."""
        return sum(timing.wall_s for timing in (*self.case, *self.reference))


def interleave(case: TimedRound, reference: TimedRound | None, plan: RoundPlan, *, seed: str) -> Rounds:
    """Time rounds of `case` and `reference` in alternation; each round draws from `seed` which of the two is first.

    Args:
        case: Runs and times one round, given its index.
        reference: The same of the reference; None: the case runs alone.
        plan: Says when the rounds end, and what runs after each.
        seed: Equal seeds give equal orders.
    """
    order = random.Random(seed)
    timed: tuple[list[Timing], list[Timing]] = ([], [])
    log_values: list[float] = []  # in order of size, so that each look at the median sorts almost nothing
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
        insort(log_values, math.log(latest[0].wall_s / (latest[1].wall_s if reference else 1.0)))
        spent_s += sum(timing.wall_s + timing.prepared_s for timing in latest)
        if plan.after is not None:
            plan.after(number)
    return Rounds(case=tuple(timed[0]), reference=tuple(timed[1]), stop=stop)


def warm_up(run: TimedRound, *, least: int = 3, most: int = 20, tolerance: float = 0.05) -> int:
    """Run rounds until one is not faster by more than `tolerance` than the fastest before it.

    Args:
        run: Runs round i and returns its timing.
        least: Least number of rounds.
        most: Largest number of rounds.
        tolerance: Share of the fastest time.

    Returns:
        The number of rounds that were run.
    """
    fastest_s = math.inf
    for number in range(most):
        time_s = run(number).wall_s
        if number + 1 >= least and time_s >= fastest_s * (1 - tolerance):
            return number + 1
        fastest_s = min(fastest_s, time_s)
    return most


@contextmanager
def undisturbed() -> Iterator[None]:
    """Switch the garbage collector, tracers and profilers off within the context."""
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
