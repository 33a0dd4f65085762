"""The anchor: a fixed block of plain torch, against which the reference itself is gated.

A ratio of case to reference hides a slowdown that both share. The anchor shows it.
"""

from __future__ import annotations

import math
import statistics
import time
from typing import TYPE_CHECKING, Final

from peftbench.measure.trial import nothing

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from peftbench.measure.time.clock import Clock
    from peftbench.measure.trial import Mark

EVERY: Final = 5
"""Rounds between two steps of the anchor, at least. It is compared by 15 % only."""
APART_S: Final = 0.08
"""Seconds between two steps, at least: ten stand beside a training step of `tiny`, and no more beside an inference."""
LEAST: Final = 3
"""Steps that are taken whatever their distance in seconds, so that a few short rounds have a median, too."""
BATCH: Final = 4
LENGTH: Final = 32
WIDTH: Final = 64


class Anchor:
    """A step of one transformer layer, forward and backward, in float32, timed between the rounds of a case.

    It calls nothing of transformers, PEFT or this package. It is built anew for each case and released afterwards, so
    that no memory pass sees it. It draws nothing from the global random generators.
    """

    def __init__(self, clock: Clock, device: torch.device, *, now: Callable[[], float] = time.perf_counter) -> None:
        """Build the layer and take one step, which is cold and not counted.

        Args:
            clock: Times a step.
            device: The device of the case.
            now: The present moment in seconds, by which steps are kept apart.
        """
        import torch

        self._clock, self._now = clock, now
        self._taken_s: list[float] = []
        self._last_s = -math.inf
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            self._layer = torch.nn.TransformerEncoderLayer(
                WIDTH, nhead=4, dim_feedforward=4 * WIDTH, dropout=0.0, batch_first=True, device=device
            )
            self._inputs = torch.randn(BATCH, LENGTH, WIDTH, device=device)
        self._step(nothing)

    @property
    def median_s(self) -> float | None:
        """Median time of a step; None before the first step."""
        return statistics.median(self._taken_s) if self._taken_s else None

    def after(self, number: int) -> None:
        """Take a step after one round in `EVERY`; caches are as cold and the machine is as slow as for the rounds."""
        if number % EVERY:
            return
        if len(self._taken_s) < LEAST or self._now() - self._last_s >= APART_S:
            self._taken_s.append(self._clock.time(self._step).wall_s)
            self._last_s = self._now()

    def _step(self, mark: Mark) -> None:
        del mark
        self._layer(self._inputs).sum().backward()
        self._layer.zero_grad(set_to_none=True)
