from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftbench.studies.deployment.requests import MIXES, Mix, latency_metrics, requests, slope, windows


def counted(mix: Mix, tasks: int, count: int = 20_000) -> list[int]:
    stream = requests(count, tasks=tasks, examples=10, mix=mix, seed=0)
    found = Counter(request.task for request in stream)
    return [found[task] for task in range(tasks)]


def test_uniform_requests_are_for_all_tasks_alike_and_skewed_ones_follow_zipf() -> None:
    harmonic = 1 + 1 / 2 + 1 / 3 + 1 / 4
    for task, (uniform, skewed) in enumerate(zip(counted("uniform", 4), counted("skewed", 4), strict=True)):
        assert uniform == pytest.approx(5000, abs=5 * 61)  # five standard deviations
        assert skewed == pytest.approx(20_000 / (task + 1) / harmonic, abs=5 * 71)


@pytest.mark.parametrize("mix", MIXES)
def test_requests_follow_from_the_seed_alone(mix: Mix) -> None:
    def stream(seed: int, tasks: int = 4) -> object:
        return requests(50, tasks=tasks, examples=10, mix=mix, seed=seed)

    assert stream(0) == stream(0) != stream(1)
    assert {request.task for request in requests(50, tasks=1, examples=2, mix=mix, seed=0)} == {0}


@given(st.integers(1, 50), st.integers(1, 9))
def test_lots_hold_every_request_once_in_order(count: int, size: int) -> None:
    stream = requests(count, tasks=3, examples=3, mix="uniform", seed=0)
    lots = windows(stream, size)
    assert [request for window in lots for request in window] == stream
    assert all(len(window) == size for window in lots[:-1])


def test_latencies_become_percentiles_and_a_rate() -> None:
    metrics = latency_metrics("skewed", [n / 100 for n in range(101)], total_s=50.5)
    values = {name: metric.value for name, metric in metrics.items()}
    assert values == pytest.approx(
        {"skewed_p50_s": 0.5, "skewed_p95_s": 0.95, "skewed_p99_s": 0.99, "skewed_requests_per_s": 2.0}
    )
    assert metrics["skewed_requests_per_s"].better == "higher"


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
def test_the_slope_is_that_of_least_squares(values: list[float]) -> None:
    assert slope(values) == pytest.approx(np.polyfit(range(len(values)), values, 1)[0], abs=1e-6)


def test_one_value_has_no_slope() -> None:
    assert slope([]) is slope([1.0]) is None
