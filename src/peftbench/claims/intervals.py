"""Differences with their intervals, some of them known from one side only: pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final, Literal

from peftbench.studies.training.stopping import Cost

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Observation:
    """A difference (or the log of a ratio) that was seen once: with one seed, in one launch."""

    value: float
    low: float = -math.inf
    high: float = math.inf
    """What is known of the true value from this observation alone; both ends equal the value where it is exact."""
    censored: Literal["", "above", "below", "both"] = ""
    """Where the true value lies, if what was to be seen never happened; a mean of several can be open on both sides."""

    @classmethod
    def exactly(cls, value: float) -> Observation:
        """Return an observation that would be the same again: a count, a size."""
        return cls(value, value, value)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, with the ends of its 95 % interval; infinite where nothing is known."""

    value: float
    low: float
    high: float


def interval(observations: Sequence[Observation]) -> Interval:
    """Return the mean of independent observations (at least one) with Student's t interval.

    One observation has the interval that it brought along. What is censored bounds the mean from one side only: the
    other end is infinite, and nothing is claimed there.
    """
    mean = fmean(one.value for one in observations)
    low, high = _bounds(observations, mean)
    above, below = open_ends(observations)
    return Interval(mean, -math.inf if below else low, math.inf if above else high)


def open_ends(observations: Sequence[Observation]) -> tuple[bool, bool]:
    """Return whether the true mean may lie anywhere above, and anywhere below."""
    sides = {one.censored for one in observations}
    return bool(sides & {"above", "both"}), bool(sides & {"below", "both"})


def as_observation(observations: Sequence[Observation]) -> Observation:
    """Return what several observations of one case say together."""
    found, whole = interval(observations), together(observations)
    return Observation(found.value, found.low, found.high, whole.censored)


def _bounds(observations: Sequence[Observation], mean: float) -> tuple[float, float]:
    count = len(observations)
    if count == 1 or all(one.low == one.high for one in observations):
        return fmean(one.low for one in observations), fmean(one.high for one in observations)
    from scipy.stats import t

    spread = stdev(one.value for one in observations)
    if spread == 0:  # scores of few examples are coarse: that they agree does not mean that they are exact
        return -math.inf, math.inf
    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * spread / math.sqrt(count)
    return mean - half, mean + half


def together(observations: Iterable[Observation]) -> Observation:
    """Return the mean over several cases, each seen with the same seed (or in the same launch)."""
    seen = list(observations)
    above, below = open_ends(seen)
    return Observation(
        value=fmean(one.value for one in seen),
        low=-math.inf if below else fmean(one.low for one in seen),
        high=math.inf if above else fmean(one.high for one in seen),
        censored="both" if above and below else "above" if above else "below" if below else "",
    )


def log_ratio(cost: Cost | None, reference: Cost | None) -> Observation | None:
    """Return by what factor a cost exceeds another one, as its log; None where nothing can be said.

    A cost that was never completed is larger than what was spent: then the ratio is known from one side only.
    """
    if cost is None or reference is None or (cost.censored and reference.censored):
        return None
    if not (cost.value > 0 and reference.value > 0):
        return None
    value = math.log(cost.value / reference.value)
    return Observation(value, censored="above" if cost.censored else "below" if reference.censored else "")


def added_up(costs: Iterable[Cost | None]) -> Cost | None:
    """Return the cost of several things together; more than that if one of them was never completed."""
    parts = list(costs)
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not parts:
        return None
    return Cost(math.fsum(part.value for part in known), censored=any(part.censored for part in known))
