"""Statistics that decide whether a case is slower. They are pure functions on the launches of many cases at once.

A launch of a case is one number, x = median over rounds of ln(time of the case / time of the reference). The last axis
of an array has one element for each case. Leading axes, if any, are independent suites, as in simulations. Shifts are
differences of logarithms, and `expm1` turns them into shares. `base` is the old side of the comparison, `new` the new
side. `docs/gate.md` gives the reason for each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from scipy.special import stdtr, stdtrit

from peftbench.gate.constants import Rule
from peftbench.gate.moments import Array, Moments, ragged_moments

MAX_MORE_LAUNCHES: Final = 100
"""Most additional launches that `launches_needed` considers."""


def common_shift(difference: Array, rule: Rule) -> Array:
    """Return the median over cases of mean(new) - mean(old); 0 with fewer than `min_cases` cases that are not NaN."""
    return _median_over_cases(difference, 0.0, rule)


def staged_shift(
    base: Moments, new: Moments, launches: Sequence[Sequence[float]], rule: Rule, kinds: Array | None = None
) -> Array:
    """Return each case's common shift, when suspects and their siblings may have more launches than other cases.

    The first launches, which all cases share, give the shift of the suite. Later launches were made at another time,
    at which all cases may have moved together. The median shift of the siblings between first and later launches is
    therefore added to that of the suite, weighted by the share of later launches in the case's mean. Suspects do not
    enter this median: many slower suspects would look like a common shift.

    Args:
        base: The launches of the old side.
        new: The moments of `launches`.
        launches: The launches of the new side, in the order in which they were made.
        rule: The constants.
        kinds: As in `prior_spread`.
    """
    if not new.count.any() or np.median(new.count[new.count > 0]) == new.count.max():
        return np.broadcast_to(common_shift(new.mean - base.mean, rule), new.count.shape)
    first = ragged_moments([values[: rule.launches] for values in launches])
    suite = common_shift(first.mean - base.mean, rule)
    again = new.count > first.count
    siblings = again & ~suspect(shifts(base, first, suite, rule, kinds), rule) & np.isfinite(base.mean)
    shift = np.full(new.count.shape, suite)
    if siblings.sum() < rule.siblings:
        return shift
    beside = new.count - first.count - np.where(siblings, 0, rule.launches_alone)
    for count in set(beside[beside > 0].tolist()):
        later = [launches[place][rule.launches :][:count] for place in np.flatnonzero(siblings).tolist()]
        moved = np.median([np.mean(values) for values in later] - first.mean[siblings])
        shift += np.where(beside == count, moved * (1 - first.count / np.maximum(new.count, 1)), 0.0)
    return shift


def prior_spread(base: Moments, rule: Rule, kinds: Array | None = None) -> Array:
    """Return the prior spread of each case: the median of the old side's spread over the cases of its kind.

    Training steps may spread twice as far as inferences. One prior for both would give false alarms for training steps,
    and miss slowdowns of inferences. A kind with fewer than `min_cases` cases has the median over all cases. With fewer
    cases in all, it is the prior spread of the rule.

    Args:
        base: The launches of the old side.
        rule: The constants.
        kinds: Kind of each case, along the last axis; None if all cases are of one kind.
    """
    known = np.where(base.count >= rule.min_baseline, base.spread, np.nan)
    suite = _median_over_cases(known, rule.prior_spread, rule)
    prior = np.repeat(suite[..., None], known.shape[-1], axis=-1)
    for kind in () if kinds is None else np.unique(kinds):
        prior[..., kinds == kind] = _median_over_cases(known[..., kinds == kind], suite, rule)[..., None]
    return prior


def _median_over_cases(values: Array, otherwise: Array | float, rule: Rule) -> Array:
    cases = np.isfinite(values).sum(axis=-1)
    if not np.all(cases):  # nanmedian would warn
        return np.broadcast_to(otherwise, cases.shape)
    return np.where(cases >= rule.min_cases, np.nanmedian(values, axis=-1), otherwise)


@dataclass(frozen=True, slots=True)
class Shifts:
    """Test results of each case. Shifts and spreads are in log units."""

    estimate: Array
    """Shift of the case minus the common shift."""
    spread: Array
    """Moderated standard deviation between launches."""
    df: Array
    """Degrees of freedom."""
    base_count: Array
    new_count: Array
    p_slower: Array
    """Probability of an estimate at least as high if the case were slower by the tolerance only."""
    p_faster: Array
    """Probability of an estimate at least as low if the case were faster by the tolerance only."""
    low: Array
    high: Array
    """One-sided bounds. The shift is beyond each with probability 1 - confidence, so twice as often beyond either."""

    def at(self, cases: Array) -> Shifts:
        """Return the results of some cases."""
        return Shifts(*(getattr(self, item.name)[cases] for item in fields(self)))


def shifts(base: Moments, new: Moments, common: Array, rule: Rule, kinds: Array | None = None) -> Shifts:
    """Compare the launches of the two sides, for each case; NaN if a side has none.

    The variance is moderated (Smyth 2004): the case's own variance is shrunk towards the prior of its kind, which has
    the weight of `prior_launches` degrees of freedom.

    Args:
        base: The launches of the old side.
        new: The launches of the new side.
        common: Common shift, of the shape of the cases (or broadcast to it).
        rule: The constants.
        kinds: As in `prior_spread`.
    """
    prior = prior_spread(base, rule, kinds)
    df = np.maximum(base.count + new.count - 2 + rule.prior_launches, 1)
    spread = np.sqrt((base.squares + new.squares + rule.prior_launches * prior**2) / df)
    estimate = new.mean - base.mean - common
    return tested(estimate, spread, df, base_count=base.count, new_count=new.count, rule=rule)


def tested(estimate: Array, spread: Array, df: Array, *, base_count: Array, new_count: Array, rule: Rule) -> Shifts:
    """Return estimates with their probabilities and bounds, for a t distributed error.

    Args:
        estimate: Shift of each case in log units, the common shift taken off. Shape [cases], as of all arrays here.
        spread: Standard deviation between launches, in log units.
        df: Degrees of freedom of the spread.
        base_count: Launches of each case in the baseline.
        new_count: Launches of each case in the run.
        rule: The constants.
    """
    error = spread * _error_factor(base_count, new_count)
    tolerance, margin = np.log1p(rule.tolerance), stdtrit(df, rule.confidence) * error
    return Shifts(
        estimate=estimate,
        spread=spread,
        df=df,
        base_count=base_count,
        new_count=new_count,
        p_slower=upper_tail(estimate - tolerance, error, df),
        p_faster=upper_tail(-estimate - tolerance, error, df),
        low=estimate - margin,
        high=estimate + margin,
    )


def _error_factor(base_count: Array, new_count: Array) -> Array:
    """Return the standard error of a difference of two means, divided by the spread."""
    return np.sqrt(1 / np.maximum(base_count, 1) + 1 / np.maximum(new_count, 1))


def upper_tail(excess: Array, error: Array, df: Array) -> Array:
    """Return the probability of a t distributed number at least this far above 0.

    Args:
        excess: How far above 0, in log units; of any shape, as the others.
        error: Standard error, in log units. Without any, the result is 0, 1/2 or 1.
        df: Degrees of freedom.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # without spread the ratio is infinite, or 0 / 0
        ratio = np.where(excess == 0, 0.0, excess / error)
    tail: Array = stdtr(df, -ratio)
    return tail


def error_rate(base_count: Array, rule: Rule) -> Array:
    """Return the rate at which unchanged cases may be called slower. It is higher until the baseline is full."""
    return np.where(base_count >= rule.full_baseline, rule.alpha, rule.alpha_young)


def significance(base_count: Array, rule: Rule) -> Array:
    """Return the p below which a case is slower after its last launch: the error rate that earlier looks leave."""
    level: Array = error_rate(base_count, rule) * (1 - (rule.early_alpha if rule.more_launches else 0.0))
    return level


def comparable(result: Shifts, rule: Rule) -> Array:
    """Tell which cases have enough launches on both sides to be called slower or faster."""
    enough: Array = (result.base_count >= rule.min_baseline) & (result.new_count >= rule.launches)
    return enough


def slower(result: Shifts, rule: Rule) -> Array:
    """Tell which cases are slower."""
    found: Array = comparable(result, rule) & (result.p_slower < significance(result.base_count, rule))
    return found


def faster(result: Shifts, rule: Rule) -> Array:
    """Tell which cases are faster."""
    found: Array = comparable(result, rule) & (result.p_faster < significance(result.base_count, rule))
    return found


def excluded(result: Shifts, rule: Rule) -> Array:
    """Tell for which cases a slowdown above the limit is excluded."""
    found: Array = (result.base_count >= rule.min_baseline) & (result.high < np.log1p(rule.limit))
    return found


def suspect(result: Shifts, rule: Rule) -> Array:
    """Tell which cases need more launches after the first ones."""
    cleared = excluded(result, rule) & (result.p_slower >= rule.suspect_p)
    found: Array = (result.base_count >= rule.min_baseline) & (result.new_count > 0) & ~cleared
    return found


def least_slower(result: Shifts, rule: Rule, new_count: Array) -> Array:
    """Return the smallest estimate at which a case with `new_count` launches is slower."""
    quantile = stdtrit(result.df + new_count - result.new_count, 1 - significance(result.base_count, rule))
    least: Array = np.log1p(rule.tolerance) + quantile * result.spread * _error_factor(result.base_count, new_count)
    return least


def detectable(result: Shifts, rule: Rule, new_count: int | None = None) -> Array:
    """Return the slowdown of each case that is found with the rule's power after `new_count` launches, in log units.

    By default it is that of the launches so far. The sum of two t quantiles stands for the quantile of the noncentral t
    distribution, from which it differs by less than 2 % here.
    """
    count = result.new_count if new_count is None else np.maximum(result.new_count, new_count)
    error = result.spread * _error_factor(result.base_count, count)
    found: Array = least_slower(result, rule, count) + stdtrit(result.df + count - result.new_count, rule.power) * error
    return found


def foreseen(base: Moments, rule: Rule, kinds: Array | None = None) -> Array:
    """Return the slowdown of each case that a gate will find with the rule's power after all launches, in log units.

    It is assumed that new launches spread as far as those of the baseline.

    Args:
        base: The launches of the baseline, at least two of each case.
        rule: The constants.
        kinds: As in `prior_spread`.
    """
    freedom = base.count - 1
    squares = base.squares / freedom * (freedom + rule.all_launches - 1)
    df = base.count + rule.all_launches - 2 + rule.prior_launches
    spread = np.sqrt((squares + rule.prior_launches * prior_spread(base, rule, kinds) ** 2) / df)
    new_count = np.full_like(base.count, rule.all_launches)
    zero = np.zeros(base.count.shape)
    return detectable(tested(zero, spread, df, base_count=base.count, new_count=new_count, rule=rule), rule)


def launches_needed(result: Shifts, rule: Rule) -> Array:
    """Return how many more launches would give a verdict at this estimate; 0 if `MAX_MORE_LAUNCHES` would not."""
    more = np.arange(1, MAX_MORE_LAUNCHES + 1)
    count = np.maximum(result.new_count[..., None] + more, rule.launches)
    df = (result.df - result.new_count)[..., None] + count
    error = result.spread[..., None] * _error_factor(result.base_count[..., None], count)
    estimate = result.estimate[..., None]
    level = significance(result.base_count, rule)[..., None]
    told = estimate - np.log1p(rule.tolerance) > stdtrit(df, 1 - level) * error
    told |= estimate + stdtrit(df, rule.confidence) * error < np.log1p(rule.limit)
    needed: Array = np.where(told.any(axis=-1), more[told.argmax(axis=-1)], 0)
    return needed
