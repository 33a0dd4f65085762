"""A fixed block of plain torch, against which the reference itself is gated: a ratio hides what both sides share."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

from peftbench.measure.rounds import warm_up

if TYPE_CHECKING:
    import torch

    from peftbench.measure.clock import Clock, Timing
    from peftbench.workloads.base import Mark

ROUNDS: Final = 10
"""Enough for a median that is compared by 15 %; a round takes milliseconds."""
BATCH: Final = 4
LENGTH: Final = 32
WIDTH: Final = 64


def anchor_s(clock: Clock, device: torch.device) -> float:
    """Return the median time of a step of one transformer layer, forward and backward, in float32.

    It calls nothing of transformers, PEFT or this package. Built anew and let go of each time, so that nothing of it is
    left in a memory pass; nothing is drawn from the global generators.
    """
    import torch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        layer = torch.nn.TransformerEncoderLayer(
            WIDTH, nhead=4, dim_feedforward=4 * WIDTH, dropout=0.0, batch_first=True, device=device
        )
        inputs = torch.randn(BATCH, LENGTH, WIDTH, device=device)

    def step(mark: Mark) -> None:
        del mark
        layer(inputs).sum().backward()
        layer.zero_grad(set_to_none=True)

    def timed(number: int) -> Timing:
        del number
        return clock.time(step)

    warm_up(timed)
    return statistics.median(timed(number).wall_s for number in range(ROUNDS))
