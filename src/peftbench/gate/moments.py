"""What the launches of many cases are reduced to before they are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Moments:
    """What the test needs to know of the launches of each case on one side."""

    count: Array
    mean: Array
    """NaN without launches."""
    squares: Array
    """Sum of squared deviations from the mean."""
    spread: Array
    """Interquartile range over that of as many normal numbers: a standard deviation that is robust to a bad launch; 0
    with one launch, NaN without launches."""


def moments(launches: Array) -> Moments:
    """Return the moments of launches along the last axis."""
    mean = launches.mean(axis=-1)
    low, high = np.quantile(launches, (0.25, 0.75), axis=-1)
    return Moments(
        count=np.full(mean.shape, launches.shape[-1]),
        mean=mean,
        squares=((launches - mean[..., None]) ** 2).sum(axis=-1),
        spread=(high - low) / normal_iqr(launches.shape[-1]),
    )


def normal_iqr(count: int) -> float:
    """Return the interquartile range to expect of `count` normal numbers, in standard deviations.

    It is 1.349 of very many, and 0.99 of five: with 1.349 for all, a short baseline would seem to spread too little,
    and give false alarms. The expected order statistics are those of Blom (1958). One number has no range: infinity.
    """
    if count == 1:
        return math.inf
    below, share = divmod(0.75 * (count - 1), 1)  # the upper quartile's place, as `numpy.quantile` interpolates
    ranks = np.array([below + 1, min(below + 2, count)])
    return 2 * float(ndtri((ranks - 0.375) / (count + 0.25)) @ [1 - share, share])


def ragged_moments(launches: Sequence[Sequence[float]]) -> Moments:
    """Return the moments of cases with different numbers of launches."""
    count = np.fromiter(map(len, launches), dtype=int, count=len(launches))
    mean, squares, spread = np.full(len(count), np.nan), np.zeros(len(count)), np.full(len(count), np.nan)
    for n in set(count.tolist()) - {0}:
        at = np.flatnonzero(count == n).tolist()
        part = moments(np.array([launches[i] for i in at], dtype=float))
        mean[at], squares[at], spread[at] = part.mean, part.squares, part.spread
    return Moments(count, mean, squares, spread)
