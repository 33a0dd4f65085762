import itertools
from collections.abc import Callable
from statistics import median

import pytest
import torch

from peftbench.measure.time.anchor import APART_S, EVERY, LEAST, Anchor
from peftbench.measure.time.clock import CpuClock, Timing
from peftbench.measure.trial import Mark


def test_the_anchor_is_timed_after_some_rounds_and_draws_no_numbers() -> None:
    taken: list[Timing] = []

    class Clock(CpuClock):
        def time(self, run: Callable[[Mark], object]) -> Timing:
            taken.append(super().time(run))
            return taken[-1]

    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    moments = itertools.count(step=2 * APART_S)
    anchor = Anchor(Clock(), torch.device("cpu"), now=lambda: next(moments))
    assert anchor.median_s is None
    for number in range(3 * EVERY + 1):
        anchor.after(number)
    assert torch.equal(torch.rand(2), expected)
    assert len(taken) == 4
    assert anchor.median_s == median(timing.wall_s for timing in taken)
    assert all(parameter.grad is None for parameter in anchor._layer.parameters())
    outputs = {tuple(anchor._layer(anchor._inputs).flatten().tolist()) for _ in range(2)}
    assert len(outputs) == 1
    assert {part.p for part in anchor._layer.modules() if isinstance(part, torch.nn.Dropout)} == {0.0}


def test_short_rounds_have_no_more_steps_of_the_anchor_than_long_ones() -> None:
    """A step takes a third of an inference of `tiny`: after each fifth round it would cost more than other passes."""
    moment_s = 0.0
    taken_at_s: list[float] = []

    class Clock(CpuClock):
        def time(self, run: Callable[[Mark], object]) -> Timing:
            taken_at_s.append(moment_s)
            return super().time(run)

    anchor = Anchor(Clock(), torch.device("cpu"), now=lambda: moment_s)
    for number in range(180):
        moment_s += 0.005
        anchor.after(number)
    assert len(taken_at_s) == pytest.approx(0.9 / APART_S, abs=LEAST)
    gaps_s = [after - before for before, after in itertools.pairwise(taken_at_s[LEAST - 1 :])]
    assert min(gaps_s) >= APART_S
    assert max(gaps_s) < APART_S + EVERY * 0.005
