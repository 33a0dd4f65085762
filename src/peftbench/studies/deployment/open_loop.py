"""An open loop: requests arrive at times that do not wait for answers. Pure functions, and a clock that is computed.

Arrivals are absolute times, and the server is the only one who works. So nothing is gained by sleeping until the next
arrival: the clock advances by the measured time of each lot, and jumps over the time in which the server is idle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from peftbench.records.record import LoadPoint

RAMP: Final = 0.25
"""Requests that arrive before the window, as a share of those within it: the queue is then as long as it stays."""
STARVED: Final = 0.9
"""A server starves its requests where it answers less than this share of the offered rate (arXiv 2602.24044)."""
LEAST_LOTS: Final = 20
"""Least number of full lots that a window offers. With fewer, the queue at its ends decides the achieved rate."""


@dataclass(frozen=True, slots=True)
class ArrivalPlan:
    """When requests arrive, in seconds from the start, and the window that is looked at."""

    at_s: tuple[float, ...]
    """Ascending."""
    begin_s: float
    end_s: float

    @property
    def within(self) -> range:
        """Return the numbers of the requests that arrive within the window."""
        return range(sum(at < self.begin_s for at in self.at_s), len(self.at_s))


@dataclass(frozen=True, slots=True)
class AnsweredLot:
    """The seconds from the start of a lot to each of its answers, and to the moment at which the server is free."""

    answers_s: Sequence[float]
    total_s: float


AnswerLot = Callable[[range], AnsweredLot]
"""Answers the requests of these numbers as one lot."""


def arrivals(count: int, per_s: float, seed: str) -> ArrivalPlan:
    """Return a Poisson process of which exactly `count` requests arrive within the window.

    Given their number, the arrivals of a Poisson process are independent and uniform over the window. So the offered
    rate is exactly `per_s`. Loads with the same seed have the same pattern, stretched.

    Args:
        count: Requests of the window; `RAMP` of them arrive before it, at the same rate.
        per_s: Requests a second.
        seed: Seed of the draw.
    """
    random = Random(f"arrivals/{seed}")
    before = round(RAMP * count)
    begin_s, length_s = before / per_s, count / per_s
    early = sorted(begin_s * random.random() for _ in range(before))
    counted = sorted(begin_s + length_s * random.random() for _ in range(count))
    return ArrivalPlan((*early, *counted), begin_s, begin_s + length_s)


def lot_at(at_s: Sequence[float], first: int, now_s: float, most: int) -> range:
    """Return the next lot: all requests that wait, in order of arrival, at most `most` and at least one.

    Args:
        at_s: Times of arrival, ascending.
        first: Number of the first request that is not answered. It has arrived.
        now_s: When the server is free.
        most: Batch size.
    """
    last = first + 1
    while last < min(first + most, len(at_s)) and at_s[last] <= now_s:
        last += 1
    return range(first, last)


def play(plan: ArrivalPlan, batch_size: int, answer: AnswerLot) -> tuple[list[float], int]:
    """Answer what waits, lot after lot, until the window ends.

    Returns:
        The time of each answer in order of arrival, in seconds from the start, and the number of lots. Requests whose
        lot had not begun when the window ended have no time.
    """
    now_s, answered_s, lots = 0.0, list[float](), 0
    while len(answered_s) < len(plan.at_s):
        first = len(answered_s)
        now_s = max(now_s, plan.at_s[first])
        if now_s >= plan.end_s:
            break
        done = answer(lot_at(plan.at_s, first, now_s, batch_size))
        answered_s += [now_s + seconds for seconds in done.answers_s]
        now_s += done.total_s
        lots += 1
    return answered_s, lots


def load_point(plan: ArrivalPlan, answered_s: Sequence[float], lots: int) -> LoadPoint:
    """Return what a window shows, given the times of the answers and the number of lots.

    A request that is not answered when the window ends took at least until then: its latency is censored.
    """
    length_s = plan.end_s - plan.begin_s
    within = [*plan.within]
    known = {number: at for number, at in enumerate(answered_s) if at <= plan.end_s}
    latencies_s = [known[number] - plan.at_s[number] for number in within if number in known]
    censored_s = [plan.end_s - plan.at_s[number] for number in within if number not in known]
    return LoadPoint(
        offered_per_s=len(within) / length_s,
        achieved_per_s=sum(at >= plan.begin_s for at in known.values()) / length_s,
        requests=len(within),
        unfinished=len(censored_s),
        lot_size=len(answered_s) / lots if lots else 0.0,
        longest_s=max(latencies_s, default=None),
        p50_s=quantile_of(latencies_s, censored_s, 0.5),
        p95_s=quantile_of(latencies_s, censored_s, 0.95),
        p99_s=quantile_of(latencies_s, censored_s, 0.99),
    )


def quantile_of(values: Sequence[float], censored: Sequence[float], share: float) -> float | None:
    """Return a quantile by Kaplan and Meier's estimator; None if so many values are censored that it is not known.

    Args:
        values: Those that are known.
        censored: Lower bounds of the others.
        share: Of all values, known or not: the smallest value that this share does not exceed is returned.
    """
    from scipy import stats

    if not values:
        return None
    data = stats.CensoredData.right_censored([*values, *censored], [False] * len(values) + [True] * len(censored))
    left = stats.ecdf(data).sf
    pairs = zip(left.quantiles, left.probabilities, strict=True)
    return next((float(value) for value, above in pairs if above <= 1 - share + 1e-12), None)


def starvation_point(points: Iterable[LoadPoint]) -> float | None:
    """Return the lowest offered load that the server did not keep up with, in requests a second; None if there is none.

    It keeps up if it answers at least `STARVED` of what is offered.
    """
    return min((one.offered_per_s for one in points if is_starved(one)), default=None)


def is_starved(point: LoadPoint) -> bool:
    """Tell whether a server starves its requests at this load."""
    return point.achieved_per_s < STARVED * point.offered_per_s
