"""Joules of a step, from the GPU's energy counter over one window of a second or more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from time import perf_counter, sleep
from typing import Final

from peftbench.measure.energy.nvml import Reading, sampled
from peftbench.records.record import Metric

COUNTER_PERIOD_S: Final = 0.1
"""Period after which the counter moves, where it was not measured. A reading may be this old."""
LEAD_IN_PERIODS: Final = 2
"""Steps run for this many periods before the window opens, so that both readings are taken at the same power."""
SETTLE_S: Final = 1.0
"""Time that the device gets to become idle before the idle draw is measured."""
FLOOR_S: Final = 1.0
"""Least length of a window, however fine the counter is. Power is not even over less."""
UNCERTAINTY: Final = 0.05
"""A window ends when its energy is uncertain by this share: when the counter's period is this share of its length."""
POLL_S: Final = 0.005
"""Time between two looks at the counter while its period is measured."""
LEAST_MOVES: Final = 4
"""With fewer moves of the counter its period is not known."""


@dataclass(frozen=True, slots=True)
class EnergyWindow:
    """The energy of a window, and its length."""

    energy_j: float
    """Difference of the counter between end and start."""
    uncertainty_j: float
    """Largest error from the age of the two readings: one period of the counter at the mean power."""
    window_s: float
    steps: int
    """Number of steps; 0 for an idle window."""


def window_length_s(period_s: float) -> float:
    """Return the least length of a window, given the period after which the counter moves."""
    return max(FLOOR_S, period_s / UNCERTAINTY)


def counter_period(
    energy_j: Callable[[], Reading[float]],
    *,
    now: Callable[[], float] = perf_counter,
    wait: Callable[[float], object] = sleep,
) -> float:
    """Watch the counter for `SETTLE_S` seconds, in which the device may become idle; return the period of its moves.

    A move is seen up to `POLL_S` late. The result includes that, so it is never too short.
    """
    end, moves = now() + SETTLE_S, list[float]()
    before = energy_j().value
    while before is not None and now() < end:
        wait(POLL_S)
        value = energy_j().value
        if value != before:
            moves.append(now())
            before = value
    if len(moves) < LEAST_MOVES:
        wait(max(0.0, end - now()))
        return COUNTER_PERIOD_S
    return median(second - first for first, second in pairwise(moves)) + POLL_S


def busy_window(
    energy_j: Callable[[], Reading[float]],
    step: Callable[[int], object],
    synchronize: Callable[[], object],
    *,
    period_s: float = COUNTER_PERIOD_S,
    now: Callable[[], float] = perf_counter,
) -> Reading[EnergyWindow]:
    """Run steps for as long as the uncertainty asks, and read the counter before and after, with the device idle.

    Between the two readings this function does not synchronise. Without a counter the steps run all the same, for
    `FLOOR_S`, since a sampler may be looking at other readings.

    Args:
        energy_j: Reads the counter (`Nvml.energy_j`).
        step: Runs one step, given its number. It need not wait for the device.
        synchronize: Waits for the device.
        period_s: Period after which the counter moves.
        now: The host's clock.
    """
    number = _run_for(LEAD_IN_PERIODS * period_s, step, 0, now)
    synchronize()
    first = energy_j()
    start = now()
    last_number = _run_for(window_length_s(period_s) if first.value is not None else FLOOR_S, step, number, now)
    synchronize()
    length_s = now() - start
    return _window(first, energy_j(), length_s, last_number - number, period_s)


def idle_window(
    energy_j: Callable[[], Reading[float]],
    *,
    period_s: float = COUNTER_PERIOD_S,
    now: Callable[[], float] = perf_counter,
    wait: Callable[[float], object] = sleep,
) -> Reading[EnergyWindow]:
    """Read the counter before and after a window in which nothing runs. Once per launch is enough.

    The device must be idle already.
    """
    first = energy_j()
    if first.value is None:
        return Reading(None, first.reason)
    start = now()
    wait(window_length_s(period_s))
    length_s = now() - start
    return _window(first, energy_j(), length_s, 0, period_s)


def net_window(busy: Reading[EnergyWindow], idle: Reading[EnergyWindow]) -> Reading[EnergyWindow]:
    """Return the busy window less the energy that an idle device draws in that time."""
    if busy.value is None:
        return busy
    if idle.value is None:
        return Reading(None, f"no idle draw: {idle.reason}")
    window, share = busy.value, busy.value.window_s / idle.value.window_s
    return Reading(
        replace(
            window,
            energy_j=window.energy_j - share * idle.value.energy_j,
            uncertainty_j=window.uncertainty_j + share * idle.value.uncertainty_j,
        )
    )


def energy_metrics(
    busy: Reading[EnergyWindow], idle: Reading[EnergyWindow], *, tokens: float | None
) -> dict[str, Metric]:
    """Return the metrics of an energy pass: gross (the whole draw) and net (the draw above idle).

    Args:
        busy: Window in which steps ran.
        idle: Window in which nothing ran.
        tokens: Tokens of a step, without padding; None if a step works on no batch.
    """
    net = net_window(busy, idle)
    per_token = (
        {
            "energy_per_token_j": _per_step(busy, "J/token", tokens),
            "net_energy_per_token_j": _per_step(net, "J/token", tokens),
        }
        if tokens is not None
        else {}
    )
    return {
        "energy_j": _per_step(busy, "J"),
        "net_energy_j": _per_step(net, "J"),
        **per_token,
        "idle_power_w": sampled(idle.map(lambda window: window.energy_j / window.window_s), "W"),
        "energy_window_s": sampled(busy.map(lambda window: window.window_s), "s"),
        "energy_steps": sampled(busy.map(lambda window: window.steps), "1"),
    }


def _run_for(duration_s: float, step: Callable[[int], object], number: int, now: Callable[[], float]) -> int:
    """Run steps for at least `duration_s`, and at least one; return the number of the next."""
    end = now() + duration_s
    while True:
        step(number)
        number += 1
        if now() >= end:
            return number


def _window(
    first: Reading[float], last: Reading[float], window_s: float, steps: int, period_s: float
) -> Reading[EnergyWindow]:
    if first.value is None or last.value is None:
        return Reading(None, first.reason or last.reason)
    energy_j = last.value - first.value
    if energy_j <= 0:
        return Reading(None, f"the energy counter did not move in {window_s:.1f} s")
    return Reading(EnergyWindow(energy_j, energy_j * period_s / window_s, window_s, steps))


def _per_step(window: Reading[EnergyWindow], unit: str, parts: float = 1) -> Metric:
    """Return the energy of a step divided by `parts`, with the bounds of its uncertainty."""
    if window.value is None:
        return Metric(None, unit, noise="sampled", reason=window.reason)
    low, value, high = (
        (window.value.energy_j + sign * window.value.uncertainty_j) / (window.value.steps * parts)
        for sign in (-1, 0, 1)
    )
    return Metric(value, unit, noise="sampled", low=low, high=high)
