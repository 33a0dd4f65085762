"""When is a case slower? Pure functions on the launches of many cases at once.

A case's launch is one number, x = median over rounds of ln(time of the case / time of the reference). Arrays hold one
element a case in their last axis; leading axes, if any, are independent suites (simulations use them). Shifts are
differences of logarithms: `expm1` makes shares of them. `docs/gate.md` says why each step is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from peftbench.gate.rule import Rule

Array = NDArray[Any]

NORMAL_IQR: Final = 1.349
"""Interquartile range of a normal distribution, in standard deviations."""
MAX_MORE_LAUNCHES: Final = 100
"""Where the search for the launches still needed gives up."""


@dataclass(frozen=True, slots=True)
class Moments:
    """What the test needs of the launches of each case on one side."""

    count: Array
    mean: Array
    """NaN without launches."""
    squares: Array
    """Sum of squared deviations from the mean."""
    spread: Array
    """Interquartile range / 1.349: a standard deviation that a bad launch does not move; NaN without launches."""


def moments(launches: Array) -> Moments:
    """Return the moments of launches along the last axis."""
    mean = launches.mean(axis=-1)
    low, high = np.quantile(launches, (0.25, 0.75), axis=-1)
    return Moments(
        count=np.full(mean.shape, launches.shape[-1]),
        mean=mean,
        squares=((launches - mean[..., None]) ** 2).sum(axis=-1),
        spread=(high - low) / NORMAL_IQR,
    )


def ragged_moments(launches: Sequence[Sequence[float]]) -> Moments:
    """Return the moments of cases with different numbers of launches."""
    count = np.fromiter(map(len, launches), dtype=int, count=len(launches))
    mean, squares, spread = np.full(len(count), np.nan), np.zeros(len(count)), np.full(len(count), np.nan)
    for n in set(count.tolist()) - {0}:
        at = np.flatnonzero(count == n).tolist()
        part = moments(np.array([launches[i] for i in at], dtype=float))
        mean[at], squares[at], spread[at] = part.mean, part.squares, part.spread
    return Moments(count, mean, squares, spread)


def common_shift(difference: Array, rule: Rule) -> Array:
    """Return the median over cases of mean(new) - mean(base); 0 with fewer than `min_cases` (NaN is no case)."""
    return _median_over_cases(difference, 0.0, rule)


def staged_shift(
    base: Moments, new: Moments, launches: Sequence[Sequence[float]], rule: Rule, kinds: Array | None = None
) -> Array:
    """Return each case's common shift, where suspects and their siblings may have more launches than the rest.

    The first launches, which all cases share, give the shift of the suite. Later ones were made at another time, when
    everything may have moved together: what moved the siblings (launched again, though no suspects) beside a suspect
    is added, as far as its later launches make its mean. Not the median over all that were launched again: many
    suspects at once would be taken for a common shift, and hide.

    Args:
        base: The accepted launches.
        new: The moments of `launches`.
        launches: The launches to be judged, in the order in which they were made.
        rule: The constants.
        kinds: As of `prior_spread`.
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
    """Return for each case the median of the baseline's spread over the cases of its kind.

    Training steps may spread twice as far as inferences: one prior for both would call too many of the first slower,
    and see too little in the second. With fewer than `min_cases` of a kind it is the median over all cases; with fewer
    cases than that in all, the rule's.

    Args:
        base: The accepted launches.
        rule: The constants.
        kinds: Of which kind each case is, along the last axis; None: all of one.
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
    """What the launches say of how each case moved, in log units."""

    estimate: Array
    """Shift of the case beyond the common one."""
    spread: Array
    """Moderated standard deviation between launches."""
    df: Array
    """Degrees of freedom."""
    base_count: Array
    new_count: Array
    p_slower: Array
    """Probability of an estimate at least as high, were the case slower by the tolerance only."""
    p_faster: Array
    """The same for improvements, with the sign turned."""
    low: Array
    high: Array
    """Bounds, each of which the shift is beyond with 1 - confidence (the interval between them holds less)."""

    def at(self, cases: Array) -> Shifts:
        """Return those of some cases."""
        return Shifts(*(getattr(self, item.name)[cases] for item in fields(self)))


def shifts(base: Moments, new: Moments, common: Array, rule: Rule, kinds: Array | None = None) -> Shifts:
    """Compare the launches of each case with its baseline's; NaN where a side has none.

    The variance is moderated (Smyth 2004): the case's own, shrunk towards the spread common to all cases of its kind,
    which weighs `prior_launches` degrees of freedom.

    Args:
        base: The accepted launches.
        new: The launches to be judged.
        common: Common shift, of the shape of the cases (or broadcast to it).
        rule: The constants.
        kinds: As of `prior_spread`.
    """
    prior = prior_spread(base, rule, kinds)
    df = np.maximum(base.count + new.count - 2 + rule.prior_launches, 1)
    spread = np.sqrt((base.squares + new.squares + rule.prior_launches * prior**2) / df)
    estimate = new.mean - base.mean - common
    return tested(estimate, spread, df, base_count=base.count, new_count=new.count, rule=rule)


def tested(estimate: Array, spread: Array, df: Array, *, base_count: Array, new_count: Array, rule: Rule) -> Shifts:
    """Return estimates with their probabilities and bounds, the error being t distributed."""
    error = spread * _error_factor(base_count, new_count)
    tolerance, margin = np.log1p(rule.tolerance), stdtrit(df, rule.confidence) * error
    return Shifts(
        estimate=estimate,
        spread=spread,
        df=df,
        base_count=base_count,
        new_count=new_count,
        p_slower=_upper_tail(estimate - tolerance, error, df),
        p_faster=_upper_tail(-estimate - tolerance, error, df),
        low=estimate - margin,
        high=estimate + margin,
    )


def _error_factor(base_count: Array, new_count: Array) -> Array:
    """Return standard error / spread of a difference of two means."""
    return np.sqrt(1 / np.maximum(base_count, 1) + 1 / np.maximum(new_count, 1))


def _upper_tail(excess: Array, error: Array, df: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):  # no spread at all: infinitely many errors, or none
        ratio = np.where(excess == 0, 0.0, excess / error)
    tail: Array = stdtr(df, -ratio)
    return tail


def significance(base_count: Array, rule: Rule) -> Array:
    """Return the p below which a case is slower: laxer while the baseline is not full, since little is seen then."""
    return np.where(base_count >= rule.full_baseline, rule.alpha, rule.alpha_young)


def comparable(result: Shifts, rule: Rule) -> Array:
    """Tell which cases have launches enough on both sides for a verdict of being slower or faster."""
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


def pending(result: Shifts, rule: Rule, first: int | None = None, last: int | None = None) -> Array:
    """Tell which suspects need another launch: until they are cleared, or the launches left would hardly tell.

    Args:
        result: What the launches made say.
        rule: The constants.
        first: Launches of every case; by default the rule's.
        last: Launches of a suspect in the end; by default the rule's.
    """
    first, last = first or rule.launches, last or rule.all_launches
    hopeless = (result.new_count > first) & excluded(result, rule) & (hope(result, rule, last) < rule.futility)
    found: Array = suspect(result, rule) & (result.new_count < last) & ~hopeless
    return found


def hope(result: Shifts, rule: Rule, last: int) -> Array:
    """Return the chance that a case will be slower by the rule after `last` launches.

    Stochastic curtailment, the shift having a flat prior: the mean of n launches is moved by the rest of N with the
    variance s^2 (1/n - 1/N).
    """
    made, planned = np.maximum(result.new_count, 1), np.maximum(result.new_count, last)
    missing = _least_slower(result, rule, planned) - result.estimate
    return _upper_tail(missing, result.spread * np.sqrt(1 / made - 1 / planned), result.df)


def _least_slower(result: Shifts, rule: Rule, new_count: Array) -> Array:
    """Return the estimate from which a case would be slower, with so many launches."""
    quantile = stdtrit(result.df + new_count - result.new_count, 1 - significance(result.base_count, rule))
    least: Array = np.log1p(rule.tolerance) + quantile * result.spread * _error_factor(result.base_count, new_count)
    return least


def detectable(result: Shifts, rule: Rule, new_count: int | None = None) -> Array:
    """Return the slowdown of each case that would be found with the rule's power; by default by the launches made.

    Takes the sum of two t quantiles for the quantile of the noncentral t distribution: within 2 % of it here.
    """
    count = result.new_count if new_count is None else np.maximum(result.new_count, new_count)
    error = result.spread * _error_factor(result.base_count, count)
    found: Array = (
        _least_slower(result, rule, count) + stdtrit(result.df + count - result.new_count, rule.power) * error
    )
    return found


def foreseen(base: Moments, rule: Rule, kinds: Array | None = None) -> Array:
    """Return the slowdown of each case that a gate will find with the rule's power, all launches made.

    Provided that new launches spread as far as the baseline's.

    Args:
        base: The accepted launches, two of each case at least.
        rule: The constants.
        kinds: As of `prior_spread`.
    """
    freedom = base.count - 1
    squares = base.squares / freedom * (freedom + rule.all_launches - 1)
    df = base.count + rule.all_launches - 2 + rule.prior_launches
    spread = np.sqrt((squares + rule.prior_launches * prior_spread(base, rule, kinds) ** 2) / df)
    new_count = np.full_like(base.count, rule.all_launches)
    zero = np.zeros(base.count.shape)
    return detectable(tested(zero, spread, df, base_count=base.count, new_count=new_count, rule=rule), rule)


def launches_needed(result: Shifts, rule: Rule) -> Array:
    """Return how many more launches would tell, if nothing else changed; 0 if `MAX_MORE_LAUNCHES` would not."""
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
