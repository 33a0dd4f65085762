import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from peftbench.claims.intervals import (
    SCORES,
    Interval,
    Observation,
    added_up,
    as_observation,
    interval,
    log_ratio,
    together,
)
from peftbench.studies.training.stopping import Cost


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=8))
def test_the_interval_is_students(values: list[float]) -> None:
    found = interval([Observation(value) for value in values])
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assume(error > 1e-9)
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_the_interval_of_a_score_stays_in_its_range_and_excludes_no_possible_value(scores: list[float]) -> None:
    seen = [Observation(score) for score in scores]
    free, found = interval(seen), interval(seen, SCORES)
    assert found.low == -math.inf or found.low >= 0
    assert found.high == math.inf or found.high <= 1
    for possible in np.linspace(0, 1, 21):
        assert (free.low <= possible <= free.high) == (found.low <= possible <= found.high)
    percent = [Observation(80 + score) for score in scores]  # a score of another range
    assert interval(percent, SCORES) == interval(percent)


def test_one_observation_says_nothing_of_its_spread_unless_it_brought_an_interval_along() -> None:
    assert interval([Observation(0.5)]) == Interval(0.5, -math.inf, math.inf)
    assert interval([Observation(0.5, 0.4, 0.7)]) == Interval(0.5, 0.4, 0.7)
    assert interval([Observation.exactly(0.5)]) == Interval(0.5, 0.5, 0.5)
    assert interval([Observation.exactly(0.5), Observation.exactly(1.5)]) == Interval(1.0, 1.0, 1.0)


def test_scores_that_happen_to_agree_are_not_taken_for_exact() -> None:
    assert interval([Observation(0.25)] * 3) == Interval(0.25, -math.inf, math.inf)


def test_what_is_censored_leaves_one_end_open() -> None:
    known = [Observation(1.0), Observation(1.2), Observation(1.1, censored="above")]
    found = interval(known)
    assert found.high == math.inf
    assert 0.8 < found.low < found.value == pytest.approx(1.1)
    below = interval([Observation(-one.value, censored="below" if one.censored else "") for one in known])
    assert below.low == -math.inf
    assert below.high == pytest.approx(-found.low)
    assert as_observation(known).censored == "above"


def test_cases_of_one_seed_are_averaged_and_stay_censored() -> None:
    mean = together([Observation(1.0, 0.5, 1.5), Observation(2.0, 1.5, 2.5, censored="above")])
    assert mean == Observation(1.5, 1.0, math.inf, "above")


def test_cases_that_are_open_on_different_sides_say_nothing_together() -> None:
    for value in (2.0, 2.1):
        units = [
            together([Observation(value + seed / 10, censored="above"), Observation(value, censored="below")])
            for seed in range(3)
        ]
        assert {unit.censored for unit in units} == {"both"}
        found = interval(units)
        assert (found.low, found.high) == (-math.inf, math.inf)
        whole = together([as_observation(units), Observation(1.0, 0.9, 1.1)])
        assert (whole.low, whole.high, whole.censored) == (-math.inf, math.inf, "both")


def test_a_cost_that_was_never_completed_is_known_from_one_side() -> None:
    done, lost = Cost(2.0), Cost(8.0, censored=True)
    assert log_ratio(done, done) == Observation(0.0)
    assert log_ratio(lost, done) == Observation(math.log(4), censored="above")
    assert log_ratio(done, lost) == Observation(-math.log(4), censored="below")
    for nothing in (log_ratio(lost, lost), log_ratio(None, done), log_ratio(done, None), log_ratio(Cost(0.0), done)):
        assert nothing is None
    assert added_up([done, done]) == Cost(4.0)
    assert added_up([done, lost]) == Cost(10.0, censored=True)
    assert added_up([done, None]) is added_up([]) is None


def test_an_end_that_is_not_known_stays_so_whatever_the_range() -> None:
    assert interval([Observation(0.5)], SCORES) == Interval(0.5, -math.inf, math.inf)
