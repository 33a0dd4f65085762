"""Rounds that are written by hand, and their comparison with the instrument's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

from peftbench.measure.metrics import time_metrics
from peftbench.measure.time.clock import Timing
from peftbench.measure.time.frames import with_room
from peftbench.measure.time.rounds import RoundPlan, Rounds, TimedRound, interleave, undisturbed, warm_up
from peftbench.records.record import Metric


def by_hand(call: Callable[[int], object], device: torch.device) -> TimedRound:
    """Return a round that times a call between two readings of the clock, with a synchronisation before each."""

    def timed(number: int) -> Timing:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        call(number)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return Timing(time.perf_counter() - start)

    return timed


def alternated(ours: TimedRound, plain: TimedRound, *, rounds: int, seed: str) -> Mapping[str, Metric]:
    """Return the metrics of our rounds, taken in turn with plain ones; `ratio` is the quotient of the two times.

    Both run where frames have room, as cases do. Otherwise how deep a caller lies would count as a difference.
    """

    def take() -> Rounds:
        with undisturbed():
            warm_up(ours)
            warm_up(plain)
            return interleave(ours, plain, RoundPlan(budget_s=0, exactly=rounds), seed=seed)

    return time_metrics(with_room(take), phases=(), tokens=None, first_s=0)
