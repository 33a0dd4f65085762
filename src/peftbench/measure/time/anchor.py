"""The anchor: a fixed block of plain torch, against which the reference itself is gated.

A ratio of case to reference hides a slowdown that both share. The anchor shows it.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

from peftbench.measure.time.rounds import warm_up

if TYPE_CHECKING:
    import torch

    from peftbench.measure.time.clock import Clock, Timing
    from peftbench.measure.trial import Mark

EVERY: Final = 5
"""Rounds between two steps of the anchor. A step takes a tenth of a round of `tiny`. It is compared by 15 % only."""
BATCH: Final = 4
LENGTH: Final = 32
WIDTH: Final = 64


class Anchor:
    """A step of one transformer layer, forward and backward, in float32, timed between the rounds of a case.

    It calls nothing of transformers, PEFT or this package. It is built anew for each case and released afterwards, so
    that no memory pass sees it. It draws nothing from the global random generators.
    """

    def __init__(self, clock: Clock, device: torch.device) -> None:
        import torch

        self._clock = clock
        self._taken_s: list[float] = []
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            self._layer = torch.nn.TransformerEncoderLayer(
                WIDTH, nhead=4, dim_feedforward=4 * WIDTH, dropout=0.0, batch_first=True, device=device
            )
            self._inputs = torch.randn(BATCH, LENGTH, WIDTH, device=device)
        warm_up(self._timed)

    @property
    def median_s(self) -> float | None:
        """Median time of a step; None before the first step."""
        return statistics.median(self._taken_s) if self._taken_s else None

    def after(self, number: int) -> None:
        """Take a step after one round in `EVERY`; caches are as cold and the machine is as slow as for the rounds."""
        if number % EVERY == 0:
            self._taken_s.append(self._timed(number).wall_s)

    def _timed(self, number: int) -> Timing:
        del number
        return self._clock.time(self._step)

    def _step(self, mark: Mark) -> None:
        del mark
        self._layer(self._inputs).sum().backward()
        self._layer.zero_grad(set_to_none=True)
