"""Which cases need another launch: the looks between the first launches of all cases and the last of a suspect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from peftbench.gate.rule import Rule
from peftbench.gate.statistics import (
    Array,
    Shifts,
    comparable,
    error_rate,
    excluded,
    least_slower,
    suspect,
    upper_tail,
)


@dataclass(frozen=True, slots=True)
class Looks:
    """After how many launches a suspect is looked at."""

    first: int
    """Launches of every case."""
    last: int
    """Launches of a suspect in the end."""
    alone: int = 0
    """Of the launches after the first ones, those without siblings beside them."""

    @classmethod
    def of(cls, rule: Rule) -> Self:
        """Return those of a gate by its rule."""
        return cls(rule.launches, rule.all_launches, rule.launches_alone)

    @property
    def early(self) -> int:
        """How many looks before the last launch may call a case slower."""
        return max(self.last - self.first - self.alone, 1)

    def telling(self, count: Array) -> Array:
        """Tell whether a case of so many launches may be called slower before its last.

        After its first launches, which all cases share; not by later ones that nothing stood beside, since all may
        have moved together meanwhile.
        """
        found: Array = (count == self.first) | ((count > self.first + self.alone) & (count < self.last))
        return found


def pending(result: Shifts, rule: Rule, looks: Looks | None = None) -> Array:
    """Tell which suspects need another launch: until they are cleared or certain, or the rest would hardly tell.

    Args:
        result: What the launches made say.
        rule: The constants.
        looks: By default those of the rule.
    """
    looks = looks or Looks.of(rule)
    hopeless = excluded(result, rule) & (hope(result, rule, looks.last) < rule.futility)
    settled = (result.new_count > looks.first) & hopeless | certain(result, rule, looks)
    found: Array = suspect(result, rule) & (result.new_count < looks.last) & ~settled
    return found


def certain(result: Shifts, rule: Rule, looks: Looks) -> Array:
    """Tell which cases are slower so surely that the launches left would not turn it.

    A part of the rate of false alarms is spent on the looks before the last one, as much on each (Bonferroni's bound:
    whatever hangs together between looks, it is not exceeded for that); the last look has the rest (`significance`).

    Args:
        result: What the launches made say.
        rule: The constants.
        looks: When cases are looked at.
    """
    level = error_rate(result.base_count, rule) * rule.early_alpha / looks.early
    found: Array = comparable(result, rule) & looks.telling(result.new_count) & (result.p_slower < level)
    return found


def hope(result: Shifts, rule: Rule, last: int) -> Array:
    """Return the chance that a case will be slower by the rule after `last` launches.

    Stochastic curtailment, the shift having a flat prior: the mean of n launches is moved by the rest of N with the
    variance s^2 (1/n - 1/N).
    """
    made, planned = np.maximum(result.new_count, 1), np.maximum(result.new_count, last)
    missing = least_slower(result, rule, planned) - result.estimate
    return upper_tail(missing, result.spread * np.sqrt(1 / made - 1 / planned), result.df)
