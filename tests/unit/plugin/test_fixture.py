"""What pytest-benchmark is told of the rounds of a case."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from peftbench.measure.time.clock import Timing
from peftbench.plugin.fixture import _observed


class Statistics:
    """Stands in for those of pytest-benchmark."""

    def __init__(self) -> None:
        self.data: list[float] = []

    def update(self, time_s: float) -> None:
        self.data.append(time_s)


class Benchmark:
    """Stands in for the fixture of pytest-benchmark, whose first round makes its statistics."""

    stats: Any = None

    def pedantic(self, timed: Callable[[int], Timing], args: tuple[int, ...], rounds: int) -> Timing:
        assert rounds == 1
        timing = timed(*args)
        self.stats = SimpleNamespace(stats=Statistics())
        self.stats.stats.update(timing.wall_s + timing.prepared_s)
        return timing


def test_rounds_that_are_taken_again_replace_the_first_ones() -> None:
    benchmark: Any = Benchmark()
    observed = _observed(benchmark, lambda number: Timing(1.0 + number, prepared_s=0.5))
    for number in (0, 1, 2):
        observed(number)
    assert benchmark.stats.stats.data == [1.0, 2.0, 3.0]  # without what prepared the first
    for number in (0, 1):
        observed(number)
    assert benchmark.stats.stats.data == [1.0, 2.0]
