"""Rounds that are written by hand, and their comparison with the instrument's own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch

from peftbench.measure.metrics import time_metrics
from peftbench.measure.time.clock import Timing
from peftbench.measure.time.frames import with_room
from peftbench.measure.time.rounds import Rounds, TimedRound, undisturbed, warm_up
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


def alternated(ours: TimedRound, plain: TimedRound, *, rounds: int) -> Mapping[str, Metric]:
    """Return the metrics of our rounds, taken in turn with plain ones; `ratio` is the quotient of the two times.

    Both sides run where frames have room, as cases do. Otherwise how deep a caller lies would count as a difference.

    Args:
        ours: Runs round i and returns its timing.
        plain: The same of the side that is written by hand.
        rounds: Of each side.
    """

    def take() -> Rounds:
        with undisturbed():
            warm_up(ours)
            warm_up(plain)
            return in_pairs(ours, plain, pairs=max(rounds // 2, 1))

    return time_metrics(with_room(take), phases=(), tokens=None, first_s=0)


def in_pairs(ours: TimedRound, plain: TimedRound, *, pairs: int) -> Rounds:
    """Return a timing of each side for each pair of rounds: the geometric mean of its two.

    The order is ours, plain, plain, ours. So each side follows itself once and the other side once, which leaves the
    caches of the processor in another state, and a machine that becomes slower slows both alike.
    """
    found: tuple[list[Timing], list[Timing]] = ([], [])
    for before in range(0, 2 * pairs, 2):
        one, two = ours(before), plain(before)
        three, four = plain(before + 1), ours(before + 1)
        for timings, (first, second) in zip(found, ((one, four), (two, three)), strict=True):
            timings.append(Timing(math.sqrt(first.wall_s * second.wall_s)))
    return Rounds(case=tuple(found[0]), reference=tuple(found[1]), stop="rounds")
