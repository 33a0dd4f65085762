"""The statistics against scipy, against a plain second implementation, and against their own promises by simulation."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from peftbench.gate.constants import Rule
from peftbench.gate.decision import (
    Shifts,
    common_shift,
    detectable,
    excluded,
    faster,
    foreseen,
    launches_needed,
    prior_spread,
    shifts,
    significance,
    slower,
    staged_shift,
    suspect,
)
from peftbench.gate.decision import (
    tested as judged,
)
from peftbench.gate.moments import Array, moments, normal_iqr, ragged_moments
from peftbench.gate.stages import Looks, certain, hope, pending

RULE = Rule()
LAST_ALPHA = RULE.alpha * (1 - RULE.early_alpha)
NO_SHIFT = np.zeros(1)
OUTER = np.array([-0.08, -0.06, 0, 0, 0, 0, 0, 0.06, 0.08])


def _launches(seed: int, *shape: int, spread: float = 0.01) -> Array:
    return np.random.default_rng(seed).normal(0.2, spread, shape)


def test_without_prior_and_tolerance_it_is_the_t_test_of_scipy() -> None:
    rule = Rule(prior_launches=0, tolerance=0.0)
    base, new = _launches(1, 7, 20), _launches(2, 7, 10) + 0.01
    found = shifts(moments(base), moments(new), NO_SHIFT, rule)
    expected = stats.ttest_ind(new, base, axis=-1, alternative="greater")
    interval = stats.ttest_ind(new, base, axis=-1).confidence_interval(0.90)  # two bounds of 95 %
    np.testing.assert_allclose(found.p_slower, expected.pvalue, rtol=1e-9)
    np.testing.assert_allclose(found.low, interval.low, rtol=1e-9)
    np.testing.assert_allclose(found.high, interval.high, rtol=1e-9)


@pytest.mark.parametrize("n_c", [1, 3])
def test_the_rule_by_hand(n_c: int) -> None:
    base, new = _launches(1, 6, 20), _launches(2, 6, n_c)
    n_b, d0 = 20, 10
    shift = float(np.median([y.mean() - b.mean() for b, y in zip(base, new, strict=True)]))
    prior = float(np.median([stats.iqr(b) / normal_iqr(20) for b in base]))
    found = shifts(moments(base), moments(new), common_shift(new.mean(-1) - base.mean(-1), RULE), RULE)
    for case, (b, y) in enumerate(zip(base, new, strict=True)):
        e = y.mean() - b.mean() - shift
        squares = (n_b - 1) * b.var(ddof=1) + n_c * y.var()
        df = n_b + n_c - 2 + d0
        se = math.sqrt((squares + d0 * prior**2) / df) * math.sqrt(1 / n_b + 1 / n_c)
        assert found.estimate[case] == pytest.approx(e)
        assert found.p_slower[case] == pytest.approx(stats.t.sf((e - math.log(1.01)) / se, df))
        assert found.p_faster[case] == pytest.approx(stats.t.sf((-e - math.log(1.01)) / se, df))
        assert found.high[case] == pytest.approx(e + stats.t.ppf(0.95, df) * se)
        assert found.low[case] == pytest.approx(e - stats.t.ppf(0.95, df) * se)


def test_a_side_with_one_launch_has_the_whole_spread_and_one_with_none_is_counted_as_one() -> None:
    one, ones = np.ones(1), np.ones(1, dtype=int)
    for count in (ones, 0 * ones):
        found = judged(0 * one, 0.01 * one, 30 * one, base_count=count, new_count=count, rule=RULE)
        assert found.high[0] == pytest.approx(stats.t.ppf(RULE.confidence, 30) * 0.01 * math.sqrt(2))


def test_ragged_moments_are_those_of_each_case() -> None:
    launches = [[0.1], [], [0.2, 0.4, 0.3], [0.5], [1.0, 2.0, 4.0]]
    found = ragged_moments(launches)
    assert found.count.tolist() == [1, 0, 3, 1, 3]
    np.testing.assert_allclose(found.mean, [0.1, np.nan, 0.3, 0.5, 7 / 3])
    np.testing.assert_allclose(found.squares, [0, 0, 0.02, 0, 14 / 3])
    np.testing.assert_allclose(found.spread, [0, np.nan, 0.1 / normal_iqr(3), 0, 1.5 / normal_iqr(3)])


@pytest.mark.parametrize(("count", "error"), [(2, 0.05), (3, 0.03), (5, 0.01), (10, 0.01), (20, 0.01)])
def test_the_spread_of_few_launches_is_no_smaller_than_that_of_many(count: int, error: float) -> None:
    drawn = np.random.default_rng(count).normal(0.0, 1.0, (200_000, count))
    assert moments(drawn).spread.mean() == pytest.approx(1.0, rel=error)


def test_the_spread_of_very_many_launches_is_that_of_the_normal_distribution() -> None:
    assert normal_iqr(10**9) == pytest.approx(2 * stats.norm.ppf(0.75))


def test_a_short_baseline_gives_no_more_false_alarms_than_promised() -> None:
    rng = np.random.default_rng(5)
    base = moments(rng.normal(0.0, 0.015, (1_500, 24, 5)))
    new = moments(rng.normal(np.log1p(RULE.tolerance), 0.015, (1_500, 24, RULE.all_launches)))
    called = slower(shifts(base, new, np.zeros((1_500, 1)), RULE), RULE)
    assert called.mean() < 1.5 * RULE.alpha_young


def test_too_few_cases_share_no_shift_and_no_spread() -> None:
    four, five = moments(_launches(1, 4, 20)), moments(_launches(1, 5, 20))
    assert float(common_shift(four.mean, RULE)) == 0.0
    assert prior_spread(four, RULE).tolist() == [RULE.prior_spread] * 4
    assert common_shift(five.mean, RULE) == np.median(five.mean)
    assert prior_spread(five, RULE).tolist() == [np.median(five.spread)] * 5
    nothing = ragged_moments([])
    assert float(common_shift(nothing.mean, RULE)) == 0.0
    assert prior_spread(nothing, RULE).tolist() == []


def test_cases_share_the_spread_of_their_kind_and_that_of_all_where_the_kind_is_rare() -> None:
    noisy = np.array(["train_step"] * 6 + ["inference"] * 5 + ["merge"] * 4)
    scale = np.select([noisy == "train_step", noisy == "inference"], [3.0, 1.0], 2.0)
    base = moments(_launches(3, 15, 20) * scale[:, None])
    found = prior_spread(base, RULE, noisy)
    expected = [np.median(base.spread[:6])] * 6 + [np.median(base.spread[6:11])] * 5 + [np.median(base.spread)] * 4
    assert found.tolist() == expected
    suites = [_launches(seed, 15, 20) for seed in (4, 5)]
    both = prior_spread(moments(np.stack(suites)), RULE, noisy)
    assert both.tolist() == [prior_spread(moments(suite), RULE, noisy).tolist() for suite in suites]


def test_where_kinds_spread_differently_a_prior_for_all_is_wrong_about_both() -> None:
    kinds = np.arange(24) % 2
    rng = np.random.default_rng(0)
    spread = np.where(kinds, 0.03, 0.01)[:, None]
    base, new = moments(spread * rng.normal(size=(4000, 24, 20))), moments(spread * rng.normal(size=(4000, 24, 10)))
    rates = {}
    for name, of in (("own", kinds), ("all", None)):
        found = shifts(base, new, NO_SHIFT, RULE, of)
        rates[name] = [np.mean(found.p_slower[:, kinds == kind] < 0.01) for kind in (0, 1)]
        rates[name] += [np.mean(excluded(found, RULE)[:, kinds == 0])]
    # p is of a shift by the tolerance, so that no shift at all is called slower less often than 1 %
    assert rates["own"][1] < 0.01
    assert rates["all"][1] > 1.3 * rates["own"][1]
    assert rates["own"][2] >= rates["all"][2]


@settings(max_examples=20, deadline=None)
@given(drift=st.floats(-0.5, 0.5))
def test_what_moves_every_case_alike_moves_no_verdict(drift: float) -> None:
    base, new = moments(_launches(1, 9, 20)), _launches(2, 9, 10) + OUTER[:, None]
    before, after = (
        shifts(base, moments(y), common_shift(y.mean(-1) - base.mean, RULE), RULE) for y in (new, new + drift)
    )
    np.testing.assert_allclose(after.p_slower, before.p_slower, atol=1e-9)
    assert slower(after, RULE).tolist() == [False] * 7 + [True] * 2
    assert faster(after, RULE).tolist() == [True] * 2 + [False] * 7


def test_identical_launches_are_unchanged_and_any_rise_above_the_tolerance_is_slower() -> None:
    base = ragged_moments([[0.2] * 20] * 5)
    found = shifts(base, ragged_moments([[0.2] * 3] * 4 + [[0.3] * 3]), NO_SHIFT, RULE)
    assert slower(found, RULE).tolist() == [False] * 4 + [True]
    assert excluded(found, RULE).tolist() == [True] * 4 + [False]


def test_few_launches_on_either_side_never_fail_a_case() -> None:
    found = shifts(
        ragged_moments([[0.2] * 4, [0.2] * 5, [0.2] * 5, []]),
        ragged_moments([[0.9] * 3, [0.9] * 2, [0.9] * 3, [0.9] * 3]),
        NO_SHIFT,
        RULE,
    )
    assert slower(found, RULE).tolist() == [False, False, True, False]
    assert suspect(found, RULE).tolist() == [False, True, True, False]


def test_the_smallest_detectable_slowdown_is_that_of_the_noncentral_t() -> None:
    found = shifts(moments(_launches(1, 8, 20)), moments(_launches(2, 8, 3)), NO_SHIFT, RULE)
    for count in (3, 10):
        error = found.spread * math.sqrt(1 / 20 + 1 / count)
        df = 20 + count - 2 + 10
        effect = detectable(found, RULE, count)
        critical = stats.t.isf(LAST_ALPHA, df)
        exact = stats.nct.sf(critical, df, (effect - math.log(1.01)) / error)
        np.testing.assert_allclose(exact, RULE.power, atol=0.015)


def test_the_launches_needed_are_the_first_that_would_tell() -> None:
    base = _launches(1, 5, 20, spread=0.06)
    new = base.mean(-1, keepdims=True) + np.array([[-0.02], [0.01], [0.04], [0.06], [0.1]]) + [-0.01, 0.0, 0.01]
    found = shifts(moments(base), moments(new), NO_SHIFT, RULE)

    def tells(case: int, more: int) -> bool:
        count = found.new_count[case] + more
        df = found.df[case] + more
        error = found.spread[case] * math.sqrt(1 / 20 + 1 / count)
        e = found.estimate[case]
        is_slower = stats.t.sf((e - math.log(1.01)) / error, df) < LAST_ALPHA
        return bool(is_slower or e + stats.t.ppf(0.95, df) * error < math.log(1.05))

    expected = [next((more for more in range(1, 101) if tells(case, more)), 0) for case in range(5)]
    assert launches_needed(found, RULE).tolist() == expected
    assert expected[2] == 0
    assert max(expected) > 3


def test_hope_is_how_often_the_launches_left_would_make_a_case_slower() -> None:
    rng, s, made = np.random.default_rng(3), 0.012, 5
    base, new = np.full((9, 20), 0.2), np.full((9, made), 0.2) + np.linspace(0.0, 0.05, 9)[:, None]
    found = replace(shifts(moments(base), moments(new), NO_SHIFT, RULE), spread=np.full(9, s), df=np.full(9, 1e6))
    true = new.mean(-1) + rng.normal(0, s / math.sqrt(made), (100_000, 9))  # the posterior under a flat prior
    rest = true + rng.normal(0, s / math.sqrt(RULE.all_launches - made), true.shape)
    final = (made * new.mean(-1) + (RULE.all_launches - made) * rest) / RULE.all_launches - 0.2
    least = math.log(1.01) + stats.norm.isf(LAST_ALPHA) * s * math.sqrt(1 / 20 + 1 / RULE.all_launches)
    chance = hope(found, RULE, RULE.all_launches)
    assert min(chance) < 0.01
    assert max(chance) > 0.99
    np.testing.assert_allclose(chance, (final > least).mean(axis=0), atol=0.006)


def test_hope_is_certain_once_all_launches_are_made() -> None:
    base = moments(_launches(1, 4, 20))
    new = moments(base.mean[:, None] + np.array([[0.0], [0.005], [0.06], [0.2]]) + np.resize([-0.01, 0.01], 10))
    found = shifts(base, new, NO_SHIFT, RULE)
    assert hope(found, RULE, RULE.all_launches).tolist() == slower(found, RULE).tolist() == [False, False, True, True]
    assert not pending(found, RULE).any()


def test_a_suspect_is_cleared_when_the_launches_left_would_hardly_tell() -> None:
    base = moments(_launches(1, 6, 20))
    drawn = np.array([-0.01, 0.01, 0.0] * 3)

    def after(launches: int, rule: Rule = RULE) -> list[bool]:
        new = base.mean[:, None] + np.array([[0.0], [0.015], [0.018], [0.03], [0.045], [0.06]]) + drawn[:launches]
        found: list[bool] = pending(shifts(base, moments(new), NO_SHIFT, rule), rule).tolist()
        return found

    patient = replace(RULE, early_alpha=0.0)
    assert after(3, patient) == after(3, replace(patient, futility=0.0)) == [False, False, True, True, True, True]
    assert after(9, replace(patient, futility=0.0)) == [False, True, True, True, True, True]
    assert after(9, patient) == [False, False, False, True, True, True]


@pytest.mark.parametrize("looks", [Looks.of(RULE), Looks(5, 15)])
def test_a_case_is_certain_only_where_its_p_holds_its_part_of_alpha(looks: Looks) -> None:
    """And not by launches that nothing stood beside: everything may have moved together since the first ones."""
    base = moments(_launches(1, 40, 20))
    level = RULE.alpha * RULE.early_alpha / (looks.last - looks.first - looks.alone)
    for made in range(2, looks.last + 1):
        new = base.mean[:, None] + np.linspace(0.0, 0.1, 40)[:, None] + np.resize([-0.01, 0.01, 0.0], made)
        found = shifts(base, moments(new), NO_SHIFT, RULE)
        alone = looks.first < made <= looks.first + looks.alone
        expected = (found.p_slower < level) & (looks.first <= made < looks.last) & (not alone)
        assert certain(found, RULE, looks).tolist() == expected.tolist()
        assert not pending(found, RULE, looks)[expected].any()
        assert slower(found, RULE)[expected].all()  # so that no verdict turns
        assert expected.any() == (looks.first <= made < looks.last and not alone)
        assert not certain(found, replace(RULE, early_alpha=0.0), looks).any()


def test_there_is_at_least_one_early_look() -> None:
    assert [Looks(3, last, alone=2).early for last in (3, 5, 6, 7, 10)] == [1, 1, 1, 2, 5]


def test_what_early_looks_spend_the_last_one_does_not_have() -> None:
    counts = np.array([5, 20])
    left, whole = significance(counts, RULE), significance(counts, replace(RULE, more_launches=0))
    looks = Looks.of(RULE)
    spent = [rate * RULE.early_alpha / looks.early * looks.early for rate in (RULE.alpha_young, RULE.alpha)]
    np.testing.assert_allclose(left + spent, [RULE.alpha_young, RULE.alpha])
    assert whole.tolist() == [RULE.alpha_young, RULE.alpha]


def test_false_alarms_of_cases_that_nothing_clears_stay_at_alpha_with_early_looks() -> None:
    """Cases slower by the tolerance alone, where p is uniform: called at any look, or after the last launch."""
    rng, suites, cases = np.random.default_rng(5), 4000, 24
    base = moments(rng.normal(0, 0.01, (suites, cases, RULE.full_baseline)))
    new = rng.normal(math.log1p(RULE.tolerance), 0.01, (suites, cases, RULE.all_launches))
    called = np.zeros((suites, cases), dtype=bool)
    for made in range(RULE.launches, RULE.all_launches):
        called |= certain(shifts(base, moments(new[..., :made]), NO_SHIFT, RULE), RULE, Looks.of(RULE))
    early = called.mean()
    called |= slower(shifts(base, moments(new), NO_SHIFT, RULE), RULE)
    assert 0 < early < 2 * RULE.early_alpha * RULE.alpha
    assert called.mean() < 1.25 * RULE.alpha


@dataclass(frozen=True)
class World:
    """What the clocks of a simulated suite do, in log units: standard deviations."""

    launch: float = 0.01
    """Between launches of one case; Student t with 5 degrees of freedom, and not alike for all cases."""
    common: float = 0.0
    """Between sessions, of all cases together."""
    own: float = 0.0
    """Between sessions, of each case for itself."""
    later: float = 0.0
    """Shift of all cases between the first launches and the later ones."""


def _suite(world: World, rng: np.random.Generator, slow: Array) -> tuple[Array, Array]:
    """Return four sessions of five launches, and ten new launches in which cases are slower by `slow`."""
    cases = len(slow)
    spread = world.launch * np.exp(rng.normal(0, 0.3, (cases, 1)))

    def session(count: int) -> Array:
        drift = rng.normal(0, world.common) + rng.normal(0, world.own, (cases, 1))
        return drift + spread * rng.standard_t(5, (cases, count)) / math.sqrt(5 / 3)

    base = np.concatenate([session(5) for _ in range(4)], axis=-1)
    new = session(10) + slow[:, None]
    new[:, 3:] += world.later
    return base, new


def _gate(base: Array, new: Array, rule: Rule = RULE) -> tuple[Array, Array]:
    """Return which cases fail, and the launches made of each: of all cases, then of suspects until they are cleared."""
    sessions = [base[:, at : at + 5] for at in range(0, 20, 5)]
    centred = [part - np.median(part.mean(-1) - sessions[0].mean(-1)) for part in sessions]
    accepted = moments(np.concatenate(centred, axis=-1))

    def judged(launches: list[list[float]]) -> Shifts:
        now = ragged_moments(launches)
        return shifts(accepted, now, staged_shift(accepted, now, launches, rule), rule)

    launches = [row[: rule.launches] for row in new.tolist()]
    found = judged(launches)
    doubtful = pending(found, rule)
    siblings = np.flatnonzero(~doubtful)[: rule.siblings]
    for number in range(rule.launches, rule.all_launches * bool(doubtful.any())):
        beside = siblings if number >= rule.launches + rule.launches_alone else siblings[:0]
        for case in {*np.flatnonzero(doubtful).tolist(), *beside.tolist()}:
            launches[case].append(new[case, number])
        found = judged(launches)
        doubtful &= pending(found, rule)
        if not doubtful.any():
            break
    return slower(found, rule), found.new_count


QUIET, DRIFTING = World(), World(common=0.02, own=0.003)


@pytest.mark.parametrize(
    "world", [QUIET, DRIFTING, World(launch=0.02, common=0.02), World(common=0.02, later=0.05)], ids=str
)
def test_a_suite_of_100_unchanged_cases_is_hardly_ever_failed(world: World) -> None:
    rng = np.random.default_rng(7)
    results = [_gate(*_suite(world, rng, np.zeros(100))) for _ in range(250)]
    assert sum(failed.any() for failed, _ in results) <= 2
    assert np.mean([made.mean() for _, made in results]) < 3.6


@pytest.mark.parametrize("world", [QUIET, DRIFTING], ids=str)
def test_a_slowdown_of_5_percent_is_found_in_19_of_20(world: World) -> None:
    rng = np.random.default_rng(8)
    slow = np.where(np.arange(100) % 20 == 19, math.log(1.05), 0.0)
    found = [_gate(*_suite(world, rng, slow))[0] for _ in range(40)]
    assert np.mean([failed[slow > 0] for failed in found]) > 0.95
    assert np.mean([failed[slow == 0] for failed in found]) < 2e-4


def test_a_case_shares_what_moved_the_siblings_beside_it() -> None:
    base = moments(np.zeros((12, 20)) + np.linspace(-0.01, 0.01, 20))
    first, later = [0.0] * 3, [0.05] * 5  # the machine changes after the first launches
    alone, suspect = [0.06] * 5, [0.06 + common for common in first + [0.05] * 2 + later]
    rows = [alone, suspect, *[first + later] * 4, *[first] * 6]
    common = staged_shift(base, ragged_moments(rows), rows, RULE)
    assert common == pytest.approx([0.0, 0.05 * 7 / 10, *[0.05 * 5 / 8] * 4, *[0.0] * 6])


def test_without_launches_alone_a_case_shares_all_that_moved() -> None:
    base = moments(np.zeros((12, 20)) + np.linspace(-0.01, 0.01, 20))
    everything = [0.0] * 5 + [0.05] * 5
    rows = [[0.06 + common for common in everything], *[everything] * 4, *[[0.0] * 3] * 7]
    common = staged_shift(base, ragged_moments(rows), rows, replace(RULE, launches_alone=0))
    assert common == pytest.approx([*[0.025] * 5, *[0.0] * 7])


def test_to_give_up_what_is_hopeless_saves_launches_and_hardly_any_power() -> None:
    slow = np.where(np.arange(24) % 12 == 11, math.log(1.03), 0.0)
    found, more = {}, {}
    for futility in (0.0, RULE.futility):
        rng, rule = np.random.default_rng(12), replace(RULE, futility=futility)
        found[futility] = np.mean([_gate(*_suite(DRIFTING, rng, slow), rule)[0][slow > 0] for _ in range(150)])
        clean = [_gate(*_suite(DRIFTING, rng, np.zeros(24)), rule)[1] for _ in range(150)]
        more[futility] = np.mean([made.max() for made in clean]) - RULE.launches
    assert found[0.0] - 0.03 < found[RULE.futility] <= found[0.0]
    assert more[RULE.futility] < 0.8 * more[0.0]


@pytest.mark.parametrize("later", [-0.03, 0.03])
def test_a_machine_that_changes_between_the_stages_hides_no_slowdown(later: float) -> None:
    rng = np.random.default_rng(13)
    slow = np.where(np.arange(24) % 12 == 11, math.log(1.06), 0.0)
    found = [_gate(*_suite(World(later=later), rng, slow))[0] for _ in range(60)]
    assert np.mean([failed[slow > 0] for failed in found]) > 0.9


def test_many_slow_cases_do_not_pass_for_a_common_shift() -> None:
    rng = np.random.default_rng(9)
    slow = np.where(np.arange(30) >= 20, math.log(1.06), 0.0)
    found = [_gate(*_suite(World(later=0.03), rng, slow))[0] for _ in range(40)]
    assert np.mean([failed[slow > 0] for failed in found]) > 0.9
    assert np.mean([failed[slow == 0] for failed in found]) < 1e-3


def test_the_detectable_slowdown_is_found_with_the_power_that_is_said() -> None:
    rng = np.random.default_rng(10)
    world = World(launch=0.015)
    base, new = _suite(world, rng, np.zeros(20_000))
    found = shifts(moments(base), moments(new), NO_SHIFT, RULE)
    moved = moments(new + detectable(found, RULE)[:, None])
    power = slower(shifts(moments(base), moved, NO_SHIFT, RULE), RULE).mean()
    assert power == pytest.approx(RULE.power, abs=0.02)


def test_without_the_common_shift_drift_alone_would_fail_suites() -> None:
    rng = np.random.default_rng(11)
    uncentred = replace(RULE, min_cases=1000)  # too few cases for a common shift, as it says
    failed = [_gate(*_suite(World(common=0.05), rng, np.zeros(50)), uncentred)[0].any() for _ in range(30)]
    assert np.mean(failed) > 0.1


def test_what_a_baseline_foresees_is_found_as_often_as_promised() -> None:
    rng = np.random.default_rng(0)
    spread = np.repeat([0.01, 0.02], 6)[:, None]
    kinds = np.repeat([0, 1], 6)
    base = moments(spread * rng.normal(size=(2000, 12, 20)))
    slowdown = foreseen(base, RULE, kinds)
    new = moments(slowdown[..., None] + spread * rng.normal(size=(2000, 12, RULE.all_launches)))
    found = slower(shifts(base, new, NO_SHIFT, RULE, kinds), RULE).mean(axis=0)
    np.testing.assert_allclose(found, RULE.power, atol=0.03)
    assert np.median(slowdown[:, 6:]) > 1.5 * np.median(slowdown[:, :6])
