from collections.abc import Callable
from statistics import median

import torch

from peftbench.measure.anchor import ROUNDS, anchor_s
from peftbench.measure.clock import CpuClock, Timing
from peftbench.workloads.base import Mark


def test_the_anchor_is_timed_a_few_times_and_leaves_nothing_behind() -> None:
    taken: list[Timing] = []

    class Clock(CpuClock):
        def time(self, run: Callable[[Mark], object]) -> Timing:
            taken.append(super().time(run))
            return taken[-1]

    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    found_s = anchor_s(Clock(), torch.device("cpu"))
    assert torch.equal(torch.rand(2), expected)
    assert 0 < found_s < 1
    assert ROUNDS + 3 <= len(taken) <= ROUNDS + 20
    assert found_s == median(timing.wall_s for timing in taken[-ROUNDS:])
