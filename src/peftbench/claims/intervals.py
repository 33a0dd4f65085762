"""Differences with intervals, some of them censored: pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final, Literal

from peftbench.studies.training.stopping import Cost

CONFIDENCE: Final = 0.95
Range = tuple[float, float]
"""Least and greatest value that a quantity can have."""
UNBOUNDED: Final[Range] = (-math.inf, math.inf)
SCORES: Final[Range] = (0.0, 1.0)
"""Range of a score, such as an accuracy."""
SCORE_DIFFERENCES: Final[Range] = (-1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Observation:
    """A difference (or the log of a ratio) that was observed once: with one seed, or in one launch."""

    value: float
    low: float = -math.inf
    high: float = math.inf
    """Ends of the interval of the true value, given this observation alone. Both equal an exact value."""
    censored: Literal["", "above", "below", "both"] = ""
    """Side of `value` on which the true value lies if a target was never reached. A mean can be open on both sides."""

    @classmethod
    def exactly(cls, value: float) -> Observation:
        """Return an observation without error, such as a count or a size."""
        return cls(value, value, value)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, with the ends of its 95 % interval. An end that is not known is infinite."""

    value: float
    low: float
    high: float


def interval(observations: Sequence[Observation], within: Range = UNBOUNDED) -> Interval:
    """Return the mean of independent observations (at least one) with Student's t interval.

    A single observation keeps its own interval. A censored one bounds the mean from one side only. The end on the
    other side is unknown, and infinite.

    Args:
        observations: The observations.
        within: The range of the quantity. Student's t knows no range, so a known end that lies outside is moved to the
            end of the range. This excludes no possible value. It is not done if an observation lies outside.
    """
    mean = fmean(one.value for one in observations)
    low, high = _bounds(observations, mean)
    above, below = open_ends(observations)
    least, most = within if all(within[0] <= one.value <= within[1] for one in observations) else UNBOUNDED
    return Interval(
        mean,
        -math.inf if below or low == -math.inf else max(low, least),
        math.inf if above or high == math.inf else min(high, most),
    )


def open_ends(observations: Sequence[Observation]) -> tuple[bool, bool]:
    """Return whether the true mean has no upper bound, and whether it has no lower bound."""
    sides = {one.censored for one in observations}
    return bool(sides & {"above", "both"}), bool(sides & {"below", "both"})


def as_observation(observations: Sequence[Observation]) -> Observation:
    """Return the mean of the observations of one case, with its interval, as one observation."""
    found, whole = interval(observations), together(observations)
    return Observation(found.value, found.low, found.high, whole.censored)


def _bounds(observations: Sequence[Observation], mean: float) -> tuple[float, float]:
    count = len(observations)
    if count == 1 or all(one.low == one.high for one in observations):
        return fmean(one.low for one in observations), fmean(one.high for one in observations)
    from scipy.stats import t

    spread = stdev(one.value for one in observations)
    if spread == 0:  # scores on few examples are coarse, so equal ones need not be exact
        return -math.inf, math.inf
    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * spread / math.sqrt(count)
    return mean - half, mean + half


def together(observations: Iterable[Observation]) -> Observation:
    """Return the mean over several cases that were observed with the same seed (or in the same launch)."""
    seen = list(observations)
    above, below = open_ends(seen)
    return Observation(
        value=fmean(one.value for one in seen),
        low=-math.inf if below else fmean(one.low for one in seen),
        high=math.inf if above else fmean(one.high for one in seen),
        censored="both" if above and below else "above" if above else "below" if below else "",
    )


def log_ratio(cost: Cost | None, reference: Cost | None) -> Observation | None:
    """Return ln(cost / reference); None if one is missing or not positive, or if both are censored.

    A censored cost is a lower bound. The ratio is then a bound, too.
    """
    if cost is None or reference is None or (cost.censored and reference.censored):
        return None
    if not (cost.value > 0 and reference.value > 0):
        return None
    value = math.log(cost.value / reference.value)
    return Observation(value, censored="above" if cost.censored else "below" if reference.censored else "")


def added_up(costs: Iterable[Cost | None]) -> Cost | None:
    """Return the sum of costs; None if one is missing. The sum is censored if one of them is."""
    parts = list(costs)
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not parts:
        return None
    return Cost(math.fsum(part.value for part in known), censored=any(part.censored for part in known))
