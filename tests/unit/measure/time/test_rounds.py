import contextlib
import gc
import math
import random
import sys
import weakref
from collections.abc import Callable

import pytest

from peftbench.measure.metrics import compile_metric, launch, time_metrics
from peftbench.measure.time.clock import Timing
from peftbench.measure.time.rounds import LEAST_ROUNDS, MOST_ROUNDS, RoundPlan, Rounds, interleave, undisturbed, warm_up


def rounds_of(seconds: Callable[[int], float]) -> Callable[[int], Timing]:
    return lambda number: Timing(seconds(number), (seconds(number) / 2, seconds(number) / 2))


def test_case_and_reference_alternate_in_random_order_and_share_the_round_number() -> None:
    calls: list[tuple[str, int]] = []

    def log(name: str) -> Callable[[int], Timing]:
        def run(number: int) -> Timing:
            calls.append((name, number))
            return Timing(1.0)

        return run

    interleave(log("case"), log("reference"), RoundPlan(budget_s=0, exactly=40), seed="a")
    pairs = [calls[i : i + 2] for i in range(0, 80, 2)]
    assert all({name for name, _ in pair} == {"case", "reference"} for pair in pairs)
    assert [pair[0][1] for pair in pairs] == [pair[1][1] for pair in pairs] == list(range(40))
    first = [pair[0][0] for pair in pairs]
    assert 10 < first.count("case") < 30
    again = [name for name, _ in calls]
    calls.clear()
    interleave(log("case"), log("reference"), RoundPlan(budget_s=0, exactly=40), seed="a")
    assert again == [name for name, _ in calls]


def test_what_comes_after_a_round_is_no_part_of_it() -> None:
    calls: list[str] = []

    def log(name: str) -> Callable[[int], Timing]:
        def run(number: int) -> Timing:
            calls.append(f"{name} {number}")
            return Timing(1.0)

        return run

    rounds = interleave(log("side"), log("side"), RoundPlan(budget_s=0, exactly=3, after=log("after")), seed="a")
    assert calls == [f"{name} {number}" for number in range(3) for name in ("side", "side", "after")]
    assert rounds.timed_s == 6.0


def test_drift_that_hits_both_leaves_the_ratio_alone() -> None:
    drift = random.Random(1)
    level = [math.exp(drift.gauss(0, 0.3)) for _ in range(50)]
    rounds = interleave(
        rounds_of(lambda number: 1.3e-3 * level[number]),
        rounds_of(lambda number: 1e-3 * level[number]),
        RoundPlan(budget_s=0, exactly=50),
        seed="b",
    )
    assert launch(rounds, session="s").x == pytest.approx(math.log(1.3), abs=1e-12)
    metrics = time_metrics(rounds, phases=("forward", "backward"), tokens=10, first_s=1.0)
    assert metrics["ratio"].value == pytest.approx(1.3)
    assert metrics["ratio"].low == pytest.approx(metrics["ratio"].high or 0)
    time_s, forward_s, rate = (metrics[name].value for name in ("time_s", "forward_s", "tokens_per_s"))
    assert time_s is not None
    assert forward_s == pytest.approx(time_s / 2)
    assert rate == pytest.approx(10 / time_s)
    ends = metrics["time_s"].low or 0, metrics["time_s"].high or 0
    assert (metrics["tokens_per_s"].low, metrics["tokens_per_s"].high) == (10 / ends[1], 10 / ends[0])
    assert ends[0] < ends[1]


def test_it_stops_when_the_ratio_is_known() -> None:
    noise = random.Random(2)
    quiet = interleave(rounds_of(lambda _: 1.0), rounds_of(lambda _: 1.0), RoundPlan(budget_s=1e9), seed="c")
    assert (quiet.stop, len(quiet.case)) == ("precision", LEAST_ROUNDS)
    noisy = interleave(
        rounds_of(lambda _: math.exp(noise.gauss(0, 0.02))), rounds_of(lambda _: 1.0), RoundPlan(budget_s=1e9), seed="c"
    )
    assert noisy.stop == "precision"
    assert len(noisy.case) > 3 * LEAST_ROUNDS


def test_it_stops_before_the_budget_is_overspent() -> None:
    noise = random.Random(3)
    rounds = interleave(
        rounds_of(lambda _: 0.1 * math.exp(noise.gauss(0, 1))),
        rounds_of(lambda _: 0.1),
        RoundPlan(budget_s=8),
        seed="d",
    )
    assert rounds.stop == "budget"
    assert 6 < rounds.timed_s <= 8


def test_some_rounds_are_taken_whatever_they_cost_and_never_without_end() -> None:
    dear = interleave(rounds_of(lambda _: 100.0), None, RoundPlan(budget_s=1), seed="e")
    assert (dear.stop, len(dear.case), dear.reference) == ("budget", 3, ())
    noise = random.Random(4)
    wild = interleave(
        rounds_of(lambda _: 1e-9 * math.exp(noise.gauss(0, 3))),
        rounds_of(lambda _: 1e-9),
        RoundPlan(budget_s=9),
        seed="f",
    )
    assert (wild.stop, len(wild.case)) == ("rounds", MOST_ROUNDS)


def test_what_prepares_a_round_is_paid_from_the_budget_and_is_no_part_of_its_time() -> None:
    noise = random.Random(5)
    rounds = interleave(
        lambda _: Timing(0.01 * math.exp(noise.gauss(0, 1)), prepared_s=1.0), None, RoundPlan(budget_s=20), seed="g"
    )
    assert rounds.stop == "budget"
    assert len(rounds.case) < 20
    assert rounds.timed_s < 2


def test_what_runs_no_batch_has_no_rate() -> None:
    rounds = interleave(rounds_of(lambda _: 1.0), None, RoundPlan(budget_s=0, exactly=3), seed="h")
    assert time_metrics(rounds, phases=(), tokens=None, first_s=1.0).keys() == {"time_s", "first_s"}


def test_compiling_is_what_the_first_round_takes_more_than_the_others() -> None:
    rounds = Rounds(case=(Timing(1.0), Timing(3.0), Timing(2.0)), reference=(), stop="rounds")
    assert compile_metric(12.0, rounds)["compile_s"].value == 10.0


def test_warming_up_lasts_while_rounds_get_faster() -> None:
    assert warm_up(rounds_of(lambda number: [9, 5, 3, 2, 1.99, 1.0][number])) == 5
    assert warm_up(rounds_of(lambda _: 1.0)) == 3
    assert warm_up(rounds_of(lambda number: 0.5**number), most=7) == 7


def test_nothing_disturbs_rounds_and_everything_is_given_back() -> None:
    def tracer(*_: object) -> None: ...

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        with contextlib.suppress(ZeroDivisionError), undisturbed():
            assert not gc.isenabled()
            assert sys.gettrace() is None
            raise ZeroDivisionError
        assert sys.gettrace() is tracer
        assert gc.isenabled()
    finally:
        sys.settrace(before)


def test_cyclic_garbage_is_collected_before_rounds_which_would_otherwise_hold_its_memory() -> None:
    class Cycle:
        own: object = None

    cycle = Cycle()
    cycle.own = cycle
    left = weakref.ref(cycle)
    gc.disable()
    try:
        del cycle
        assert left() is not None
        with undisturbed():
            assert left() is None
    finally:
        gc.enable()


def test_a_launch_keeps_medians() -> None:
    rounds = Rounds(
        case=(Timing(1.0), Timing(3.0), Timing(2.0)), reference=(Timing(1.0), Timing(1.0), Timing(4.0)), stop="rounds"
    )
    kept = launch(rounds, session="s")
    assert (kept.rounds, kept.time_s, kept.reference_s, kept.x) == (3, 2.0, 1.0, 0.0)
