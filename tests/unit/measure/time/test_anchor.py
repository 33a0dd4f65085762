from collections.abc import Callable
from statistics import median

import torch

from peftbench.measure.time.anchor import EVERY, Anchor
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
    anchor = Anchor(Clock(), torch.device("cpu"))
    assert anchor.median_s is None
    warm = len(taken)
    assert 3 <= warm <= 20
    for number in range(3 * EVERY + 1):
        anchor.after(number)
    assert torch.equal(torch.rand(2), expected)
    assert len(taken) - warm == 4
    assert anchor.median_s == median(timing.wall_s for timing in taken[warm:])
    assert all(parameter.grad is None for parameter in anchor._layer.parameters())
    outputs = {tuple(anchor._layer(anchor._inputs).flatten().tolist()) for _ in range(2)}
    assert len(outputs) == 1
    assert {part.p for part in anchor._layer.modules() if isinstance(part, torch.nn.Dropout)} == {0.0}
