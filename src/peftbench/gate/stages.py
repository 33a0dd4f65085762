"""Decides which cases need another launch.

A look is a decision between the first launches of all cases and the last launch of a suspect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from peftbench.gate.constants import Rule
from peftbench.gate.decision import Shifts, comparable, error_rate, excluded, least_slower, suspect, upper_tail
from peftbench.gate.moments import Array


@dataclass(frozen=True, slots=True)
class Looks:
    """Numbers of launches after which suspects are looked at."""

    first: int
    """Launches of every case."""
    last: int
    """Most launches of a suspect."""
    alone: int = 0
    """How many launches after the first ones run without siblings."""

    @classmethod
    def of(cls, rule: Rule) -> Self:
        """Return the looks of a gate by its rule."""
        return cls(rule.launches, rule.all_launches, rule.launches_alone)

    @property
    def early(self) -> int:
        """Number of looks before the last launch that may call a case slower."""
        return max(self.last - self.first - self.alone, 1)

    def telling(self, count: Array) -> Array:
        """Tell whether a case with `count` launches may be called slower before its last launch.

        It may after its first launches, which all cases share, and after launches that had siblings. It may not after
        launches alone, because a common shift would not show in them.
        """
        found: Array = (count == self.first) | ((count > self.first + self.alone) & (count < self.last))
        return found


def pending(result: Shifts, rule: Rule, looks: Looks | None = None) -> Array:
    """Tell which suspects need another launch.

    A suspect needs none when it is cleared, when it is certainly slower, or when further launches would hardly make it
    slower.

    Args:
        result: Test results of the launches so far.
        rule: The constants.
        looks: By default those of the rule.
    """
    looks = looks or Looks.of(rule)
    hopeless = excluded(result, rule) & (hope(result, rule, looks.last) < rule.futility)
    settled = (result.new_count > looks.first) & hopeless | certain(result, rule, looks)
    found: Array = suspect(result, rule) & (result.new_count < looks.last) & ~settled
    return found


def certain(result: Shifts, rule: Rule, looks: Looks) -> Array:
    """Tell which cases are slower for certain before their last launch.

    The share `early_alpha` of the rate of false alarms is divided equally between the looks before the last one. The
    last look has the rest (`significance`). By Bonferroni's bound the rate is kept although the looks are dependent.

    Args:
        result: Test results of the launches so far.
        rule: The constants.
        looks: When cases are looked at.
    """
    level = error_rate(result.base_count, rule) * rule.early_alpha / looks.early
    found: Array = comparable(result, rule) & looks.telling(result.new_count) & (result.p_slower < level)
    return found


def hope(result: Shifts, rule: Rule, last: int) -> Array:
    """Return the chance that a case will be slower by the rule after `last` launches.

    This is stochastic curtailment with a flat prior of the shift. The mean of n launches differs from that of all N
    launches with the variance s^2 (1/n - 1/N).
    """
    made, planned = np.maximum(result.new_count, 1), np.maximum(result.new_count, last)
    missing = least_slower(result, rule, planned) - result.estimate
    return upper_tail(missing, result.spread * np.sqrt(1 / made - 1 / planned), result.df)
