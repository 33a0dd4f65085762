"""What pairs of processes in lock-step say: one number a pair, the logarithm of new / base. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.stats import chi2

from peftbench.baseline.rule import Rule
from peftbench.baseline.statistics import Moments, Shifts, ragged_moments, shifts_of, suspect

EXACT: Final = 10**9
"""Launches of a base that is known exactly: each pair measures the difference itself."""


def pair_shifts(pairs: Sequence[Sequence[float]], rule: Rule) -> Shifts:
    """Return the shift of each case; a one-sample t test with moderated variance.

    No common shift is taken off: what moves every case is the difference between the two states.
    """
    found = ragged_moments(pairs)
    raise NotImplementedError
