"""What pairs of processes in lock-step say: one number a pair, ln(new / base). Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.special import chdtri

from peftbench.gate.rule import Rule
from peftbench.gate.statistics import Array, Moments, Shifts, ragged_moments, tested

EXACT: Final = 10**9
"""Launches of the base, as it were: a pair measures the difference itself, so that only pairs bring an error."""


def pair_shifts(pairs: Sequence[Sequence[float]], rule: Rule) -> Shifts:
    """Return the shift of each case: a one-sample t test whose variance is moderated as that of launches is.

    No common shift is taken off: both states ran at the same time, so that what moved all cases is the difference
    that was asked for.
    """
    found = ragged_moments(pairs)
    df = np.maximum(found.count - 1 + rule.prior_launches, 1)
    spread = np.sqrt((found.squares + rule.prior_launches * prior_variance(found, rule)) / df)
    exact = np.full_like(found.count, EXACT)
    return tested(found.mean, spread, df, base_count=exact, new_count=found.count, rule=rule)


def prior_variance(found: Moments, rule: Rule) -> Array:
    """Return the median over cases of the variance between pairs; the rule's with fewer than `min_cases`.

    The median of a variance with n - 1 degrees of freedom is below its mean; their ratio is that of chi-squared.
    """
    df = found.count - 1
    some = df > 0
    if some.sum() < rule.min_cases:
        return np.array(rule.prior_spread**2)
    return np.array(np.median(found.squares[some] / chdtri(df[some], 0.5)))
