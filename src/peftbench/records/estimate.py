"""Medians, their intervals, and quantiles: pure functions of sequences of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

CONFIDENCE: Final = 0.95
LEAST_VALUES: Final = 6
"""Fewest values with a 95 % interval. The range of five values holds the median with 94 %, of four 88, of three 75."""
QUANTILES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median with the ends of its interval."""

    median: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the width of the interval, in the unit of the median."""
        return (self.high - self.low) / 2


def median_estimate(values: Sequence[float]) -> Estimate:
    """Return the median with a distribution-free interval from order statistics.

    The interval's coverage is at least `CONFIDENCE` for independent values. With fewer than `LEAST_VALUES` values no
    pair of order statistics reaches it. The interval is then the range of the values, which covers less. Rounds of one
    process are not independent, so this is the precision within a launch; between launches the spread is larger.
    """
    ordered = sorted(values)
    low, high = _ranks(len(ordered))
    return Estimate(median=quantile(ordered, 0.5), low=ordered[low], high=ordered[high])


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the quantile of sorted values by linear interpolation (Hyndman and Fan's type 7)."""
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def quantiles(values: Sequence[float]) -> tuple[float, ...]:
    """Return the `QUANTILES` of the values."""
    ordered = sorted(values)
    return tuple(quantile(ordered, share) for share in QUANTILES)


@lru_cache(maxsize=4096)
def _ranks(count: int) -> tuple[int, int]:
    """Return the ranks (from 0) of the order statistics that enclose the median of `count` values."""
    rank = (count - 1) // 2  # from the middle outwards: at the end, 0.5**count is 0 from 1075 values on
    ways = math.lgamma(count + 1) - math.lgamma(rank + 1) - math.lgamma(count - rank + 1)
    chance = math.exp(ways - count * math.log(2))  # that `rank` of the values lie below the median
    tail = 0.5 if count % 2 else 0.5 - chance * (count - rank) / (rank + 1) / 2  # that at most `rank` do
    while rank > 0 and tail > (1 - CONFIDENCE) / 2:
        tail -= chance
        chance *= rank / (count - rank + 1)
        rank -= 1
    return rank, count - 1 - rank
