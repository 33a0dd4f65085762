import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from peftbench.records.estimate import CONFIDENCE, LEAST_VALUES, median_estimate, quantile, quantiles


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_the_median_is_that_of_the_standard_library_and_lies_in_its_interval(values: list[float]) -> None:
    estimate = median_estimate(values)
    assert math.isclose(estimate.median, statistics.median(values), abs_tol=1e-6)
    assert estimate.low <= estimate.median <= estimate.high
    assert {estimate.low, estimate.high} <= set(values)


@pytest.mark.parametrize("count", [*range(6, 60), 101, 500, 1075, 5000, 20_001])
def test_the_interval_is_the_narrowest_symmetric_one_that_keeps_its_confidence(count: int) -> None:
    estimate = median_estimate(range(count))
    rank = int(estimate.low)
    assert estimate.high == count - 1 - rank
    assert 1 - 2 * binom.cdf(rank, count, 0.5) >= CONFIDENCE
    assert 1 - 2 * binom.cdf(rank + 1, count, 0.5) < CONFIDENCE


def test_fewer_values_than_the_least_have_no_interval_of_that_confidence() -> None:
    coverage = [1 - 2 * 0.5**count for count in (3, 4, 5, 6)]
    assert coverage == [0.75, 0.875, 0.9375, 0.96875]
    assert [count for count in range(2, 10) if 1 - 2 * 0.5**count < CONFIDENCE] == [*range(2, LEAST_VALUES)]


def test_few_values_give_their_range() -> None:
    estimate = median_estimate([3.0, 1.0, 2.0])
    assert (estimate.low, estimate.median, estimate.high) == (1.0, 2.0, 3.0)
    assert estimate.half_width == 1.0


def test_the_interval_covers_the_true_median_as_often_as_it_says() -> None:
    draw = random.Random(7)
    hits = 0
    for _ in range(2000):
        estimate = median_estimate([draw.lognormvariate(0, 1) for _ in range(25)])
        hits += estimate.low <= 1.0 <= estimate.high
    assert 0.94 < hits / 2000 < 0.985


def test_quantiles_are_linear_between_neighbours() -> None:
    assert quantile([0.0, 10.0], 0.25) == 2.5
    expected = statistics.quantiles([1, 2, 4, 8, 16], n=4, method="inclusive")
    assert quantiles([16, 1, 8, 2, 4])[2:5] == tuple(expected)
