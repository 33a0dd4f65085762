import math
from statistics import mean, variance

import numpy as np
import pytest
from scipy import stats

from peftbench.gate.constants import Rule
from peftbench.gate.decision import detectable, excluded, slower
from peftbench.gate.moments import ragged_moments
from peftbench.gate.pairs import pair_shifts, prior_variance


def test_without_a_prior_it_is_the_one_sample_t_test() -> None:
    pairs = [0.05, 0.06, 0.04, 0.07, 0.05]
    found = pair_shifts([pairs], Rule(prior_launches=0))
    expected = stats.ttest_1samp(pairs, math.log1p(0.01), alternative="greater")
    assert found.p_slower[0] == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.estimate[0] == pytest.approx(mean(pairs))
    bound = stats.t.interval(0.9, 4, mean(pairs), math.sqrt(variance(pairs) / 5))
    assert (found.low[0], found.high[0]) == pytest.approx(bound, rel=1e-6)


def test_the_prior_is_unbiased_and_only_taken_from_many_cases() -> None:
    draws = np.random.default_rng(0).normal(0, 0.015, (20_000, 5))
    assert math.sqrt(prior_variance(ragged_moments(draws.tolist()), Rule())) == pytest.approx(0.015, rel=0.02)
    assert prior_variance(ragged_moments(draws[:4].tolist()), Rule()) == pytest.approx(0.02**2)
    assert prior_variance(ragged_moments([[0.1]] * 9), Rule()) == pytest.approx(0.02**2)
    twos = [*draws[:, :2].tolist(), [0.5]]  # two pairs are enough, one is not
    assert math.sqrt(prior_variance(ragged_moments(twos), Rule())) == pytest.approx(0.015, rel=0.03)


def test_what_moves_every_case_is_found_in_every_case() -> None:
    draws = np.random.default_rng(1).normal(0.06, 0.01, (20, 15))
    assert slower(pair_shifts(draws.tolist(), Rule()), Rule()).all()


@pytest.mark.parametrize(("shift", "low", "high"), [(0.0, 0.0, 0.0002), (0.03, 0.9, 1.0), (0.05, 0.999, 1.0)])
def test_false_alarms_and_power_at_the_spread_that_was_measured(shift: float, low: float, high: float) -> None:
    rule = Rule()
    draws = np.random.default_rng(2).normal(math.log1p(shift), 0.015, (20_000, 15))
    found = pair_shifts(draws.tolist(), rule)
    assert low <= slower(found, rule).mean() <= high
    assert math.expm1(np.median(detectable(found, rule))) == pytest.approx(0.0285, abs=0.001)
    if shift == 0:
        assert excluded(pair_shifts(draws[:, :5].tolist(), rule), rule).mean() > 0.99
