"""Statistics of pairs of processes in lock-step. A pair yields one number for a case: ln(new / old)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.special import chdtri

from peftbench.gate.constants import Rule
from peftbench.gate.decision import Shifts, tested
from peftbench.gate.moments import Array, Moments, ragged_moments

EXACT: Final = 10**9
"""Stands for the launches of the old side. A pair measures the difference itself, so the old side adds no error."""


def pair_shifts(pairs: Sequence[Sequence[float]], rule: Rule) -> Shifts:
    """Return the shift of each case, by a one-sample t test with a moderated variance as for launches.

    No common shift is taken off. Both states ran at the same time, so that a shift of all cases is a difference
    between the states.
    """
    found = ragged_moments(pairs)
    df = np.maximum(found.count - 1 + rule.prior_launches, 1)
    spread = np.sqrt((found.squares + rule.prior_launches * prior_variance(found, rule)) / df)
    exact = np.full_like(found.count, EXACT)
    return tested(found.mean, spread, df, base_count=exact, new_count=found.count, rule=rule)


def prior_variance(found: Moments, rule: Rule) -> Array:
    """Return the median over cases of the variance between pairs; that of the rule with fewer than `min_cases` cases.

    The median of a variance with n - 1 degrees of freedom is below its mean. The median of chi-squared corrects it.
    """
    df = found.count - 1
    some = df > 0
    if some.sum() < rule.min_cases:
        return np.array(rule.prior_spread**2)
    return np.array(np.median(found.squares[some] / chdtri(df[some], 0.5)))
