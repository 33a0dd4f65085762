"""Requests that do not wait for answers: against queues in closed form, and servers whose speed is known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import fmean

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peftbench.config.settings import Settings
from peftbench.records.estimate import quantile
from peftbench.records.record import LoadPoint
from peftbench.studies.deployment.open_loop import (
    RAMP,
    AnsweredLot,
    AnswerLot,
    arrivals,
    load_point,
    lot_at,
    play,
    quantile_of,
    starvation_point,
)
from peftbench.studies.deployment.requests import Request
from peftbench.studies.deployment.servers import OnAnswer, Server
from peftbench.studies.deployment.under_load import under_loads


def takes(lot_s: float, each_s: float = 0.0) -> AnswerLot:
    """A server whose lots take a fixed time, and more for each request; all its answers come at the end."""

    def answer(lot: range) -> AnsweredLot:
        total_s = lot_s + each_s * len(lot)
        return AnsweredLot([total_s] * len(lot), total_s)

    return answer


def served(load: float, answer: AnswerLot, *, capacity: float, size: int = 1, requests: int = 200) -> LoadPoint:
    plan = arrivals(requests, load * capacity, "0")
    return load_point(plan, *play(plan, size, answer))


@pytest.mark.parametrize("rho", [0.3, 0.6, 0.8])
def test_one_request_at_a_time_waits_as_long_as_pollaczek_and_khinchine_say(rho: float) -> None:
    plan = arrivals(60_000, rho, "queue")
    answered, lots = play(plan, 1, takes(1.0))
    waits = [answered[number] - plan.at_s[number] - 1.0 for number in plan.within if number < len(answered)]
    assert fmean(waits) == pytest.approx(rho / (2 * (1 - rho)), rel=0.1)
    assert lots == len(answered)


@pytest.mark.parametrize("rate", [0.5, 0.9, 2.0])
def test_a_lot_of_all_who_wait_has_the_size_of_closed_form(rate: float) -> None:
    """While a lot takes one second, a Poisson number arrives. If nobody did, the next lot is of one."""
    point = served(rate, takes(1.0), capacity=1.0, size=10**6, requests=30_000)
    assert point.lot_size == pytest.approx(rate + math.exp(-rate), rel=0.02)
    assert point.achieved_per_s == pytest.approx(rate, rel=0.01)


@given(st.integers(1, 400), st.floats(0.01, 1e4), st.integers(0, 9))
def test_the_offered_rate_is_exact_and_arrivals_are_absolute_times(count: int, rate: float, seed: int) -> None:
    plan = arrivals(count, rate, f"{seed}")
    assert len(plan.within) == count
    assert len(plan.within) / (plan.end_s - plan.begin_s) == pytest.approx(rate)
    assert list(plan.at_s) == sorted(plan.at_s)
    assert plan.at_s[0] >= 0
    assert plan.at_s[-1] <= plan.end_s
    slower = arrivals(count, rate / 2, f"{seed}")
    assert list(slower.at_s) == pytest.approx([2 * at for at in plan.at_s])


def test_gaps_between_arrivals_are_exponential() -> None:
    plan = arrivals(20_000, 2.0, "gaps")
    gaps = [later - earlier for earlier, later in pairwise(plan.at_s)]
    for seconds in (0.1, 0.5, 1.5):
        share = sum(gap > seconds for gap in gaps) / len(gaps)
        assert share == pytest.approx(math.exp(-2.0 * seconds), abs=0.015)


def test_a_lot_takes_who_waits_up_to_the_batch_size() -> None:
    at_s = (0.0, 1.0, 2.0, 2.0, 5.0)
    assert lot_at(at_s, 0, 0.0, 8) == range(1)
    assert lot_at(at_s, 1, 2.0, 8) == range(1, 4)
    assert lot_at(at_s, 1, 2.0, 2) == range(1, 3)
    assert lot_at(at_s, 4, 9.0, 8) == range(4, 5)


@pytest.mark.parametrize(("size", "each_s"), [(1, 0.0), (8, 0.3), (32, 0.1)])
def test_a_server_keeps_up_below_its_capacity_and_starves_above(size: int, each_s: float) -> None:
    capacity = size / (1.0 + each_s * size)
    loads = (0.25, 0.5, 0.75, 0.9, 1.25, 1.5)
    points = [
        served(load, takes(1.0, each_s), capacity=capacity, size=size, requests=max(200, 20 * size)) for load in loads
    ]
    for load, point in zip(loads, points, strict=True):
        assert point.offered_per_s == pytest.approx(load * capacity)
        assert point.achieved_per_s == pytest.approx(min(load, 1.0) * capacity, rel=0.07)
    assert starvation_point(reversed(points)) == pytest.approx(1.25 * capacity)
    assert starvation_point(points[:4]) is None
    assert points[-1].unfinished > 0.3 * points[-1].requests > 5 * points[0].unfinished


def test_requests_that_the_window_leaves_are_censored() -> None:
    plan = arrivals(200, 2.0, "over")
    answered, lots = play(plan, 1, takes(1.0))
    assert len(answered) < len(plan.at_s)  # what had not begun stays unanswered
    point = load_point(plan, answered, lots)
    done = [at - arrival for at, arrival in zip(answered, plan.at_s, strict=False) if at <= plan.end_s]
    assert point.unfinished == len(plan.at_s) - len(done)
    assert point.longest_s == max(done)
    assert point.p50_s is not None
    never = load_point(plan, (), 0)
    assert (never.p50_s, never.longest_s, never.achieved_per_s, never.unfinished) == (None, None, 0.0, 200)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_without_censoring_is_an_order_statistic(values: list[float], share: float) -> None:
    found = quantile_of(values, (), share)
    assert found is not None
    ordered = sorted(values)
    assert found == ordered[math.ceil(share * len(values) - 1e-9) - 1]
    assert found >= quantile(ordered, share) - (max(values) - min(values))


def test_a_quantile_beyond_the_known_values_is_not_known() -> None:
    assert quantile_of([1.0, 2.0, 3.0], [9.0], 0.75) == 3.0
    assert quantile_of([1.0, 2.0, 3.0], [9.0], 0.76) is None
    assert quantile_of([1.0, 3.0], [2.0], 0.5) == 3.0  # of the two above 1, one is censored at 2
    assert quantile_of([], [1.0], 0.5) is None


class Ticking(Server):
    """Answers with its own clock: a lot takes one tick, and one more for each request."""

    def __init__(self) -> None:
        self.at, self.sizes = 0.0, list[int]()

    def load(self, number: int) -> None:
        raise NotImplementedError

    def tensors(self) -> Iterator[torch.Tensor]:
        raise NotImplementedError

    def answer(self, window: Sequence[Request], on_answer: OnAnswer) -> None:
        self.sizes.append(len(window))
        self.at += 1.0
        for place in reversed(range(len(window))):  # answers come in any order
            self.at += 1.0
            on_answer(place, torch.zeros(1))


def test_a_server_is_timed_by_its_own_time_and_idle_time_costs_nothing() -> None:
    server = Ticking()
    settings = Settings(requests=100, offered_load=("50%", "125%", "0.1"))
    points, metrics = under_loads(server, settings, 0.8, tasks=2, examples=4, batch_size=4, now=lambda: server.at)
    assert [point.offered_per_s for point in points] == pytest.approx([0.1, 0.4, 1.0])
    assert [point.requests for point in points] == [100] * 3
    assert metrics["starvation_per_s"].value == pytest.approx(1.0)
    assert server.sizes[:4] == [1, 2, 3, 4]  # warmed up
    total = sum(server.sizes) + len(server.sizes)
    assert server.at == total  # nobody slept: at a tenth of a request a second the window lasts 1000
    assert points[0].p50_s == pytest.approx(2.0, abs=1.5)
    assert points[2].lot_size > 3.0
    calm = Settings(requests=100, offered_load=("50%",))
    _, kept_up = under_loads(server, calm, 0.8, tasks=1, examples=1, batch_size=4, now=lambda: server.at)
    assert kept_up["starvation_per_s"].value is None
    assert "not reached: it answers what is offered up to 0.4 a second" in kept_up["starvation_per_s"].reason


def test_so_many_requests_come_before_the_window() -> None:
    assert arrivals(200, 1.0, "").begin_s == RAMP * 200
