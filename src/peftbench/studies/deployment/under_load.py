"""Times a server's answers under offered loads: its own time is measured, idle time is skipped."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Final

import torch

from peftbench.config.offered_load import OfferedLoad
from peftbench.measure.time.rounds import undisturbed
from peftbench.records.record import Metric
from peftbench.studies.deployment.open_loop import (
    LEAST_LOTS,
    RAMP,
    AnsweredLot,
    arrivals,
    load_point,
    play,
    starvation_point,
)
from peftbench.studies.deployment.requests import Request, requests

if TYPE_CHECKING:
    from peftbench.config.settings import Settings
    from peftbench.records.record import LoadPoint
    from peftbench.studies.deployment.servers import Server

WARMED_SIZES: Final = 8
"""Lots of 1, 2, ... requests, up to this size, are answered before any is timed: an open loop has all sizes."""
LEAST_S: Final = 1.0
"""Seconds of work that a window holds at least: a pause of the machine of some milliseconds then decides nothing."""


def under_loads(
    server: Server,
    settings: Settings,
    capacity_per_s: float,
    *,
    tasks: int,
    examples: int,
    batch_size: int,
    now: Callable[[], float] = perf_counter,
) -> tuple[tuple[LoadPoint, ...], dict[str, Metric]]:
    """Offer each load of the settings to a server, and return what each shows, and the starvation point.

    Args:
        server: A server that has loaded all tasks, and has answered lots of the batch size.
        settings: They hold the loads, the number of requests and the seed.
        capacity_per_s: Requests that the server answers in a second if it never waits.
        tasks: Number of tasks that are served. Requests for them arrive alike.
        examples: Number of different examples.
        batch_size: Most requests of a lot.
        now: The host's clock.
    """
    count = max(settings.requests, LEAST_LOTS * batch_size, math.ceil(LEAST_S * capacity_per_s))
    total = count + round(RAMP * count)
    stream = requests(total, tasks=tasks, examples=examples, mix="uniform", seed=settings.seed)
    rates = sorted({OfferedLoad.read(load).per_s(capacity_per_s) for load in settings.offered_load})
    with torch.inference_mode():
        for size in range(1, min(batch_size, WARMED_SIZES) + 1):
            server.answer(stream[:size], lambda *_: None)
        points = []
        for rate in rates:
            plan = arrivals(count, rate, f"{settings.seed}")
            with undisturbed():
                answered = play(plan, batch_size, lambda lot: timed(server, [stream[number] for number in lot], now))
            points.append(load_point(plan, *answered))
    found = starvation_point(points)
    reason = "" if found is not None else f"not reached: it answers what is offered up to {rates[-1]:.3g} a second"
    metric = Metric(found, "request/s", better="higher", noise="timed", reason=reason)
    return tuple(points), {"starvation_per_s": metric}


def timed(server: Server, lot: Sequence[Request], now: Callable[[], float]) -> AnsweredLot:
    """Answer a lot, and return its times. An answer has come when it is on the host."""
    answers_s = [0.0] * len(lot)
    start = now()

    def note(place: int, _: torch.Tensor) -> None:
        answers_s[place] = now() - start

    server.answer(lot, note)
    return AnsweredLot(answers_s, now() - start)
