"""Joules of a step, from the GPU's energy counter over one window of several seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter, sleep
from typing import Final

from peftbench.measure.energy.nvml import Reading, sampled
from peftbench.records.record import Metric

COUNTER_PERIOD_S: Final = 0.1
"""Period after which the counter moves. A reading may be this old."""
LEAD_IN_S: Final = 2 * COUNTER_PERIOD_S
"""Time of steps before the window opens, so that the readings at both ends are taken at the same power."""
SETTLE_S: Final = 1.0
"""Time that the device gets to become idle before the idle draw is measured."""
WINDOW_S: Final = 3.0
"""Least length of a window. The counter's period is then at most 1/30 of it."""


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


def busy_window(
    energy_j: Callable[[], Reading[float]],
    step: Callable[[int], object],
    synchronize: Callable[[], object],
    *,
    window_s: float = WINDOW_S,
    now: Callable[[], float] = perf_counter,
) -> Reading[EnergyWindow]:
    """Run steps for at least `window_s` seconds, and read the counter before and after, with the device idle.

    Between the two readings there is no call to NVML and no synchronisation.

    Args:
        energy_j: Reads the counter (`Nvml.energy_j`).
        step: Runs one step, given its number. It need not wait for the device.
        synchronize: Waits for the device.
        window_s: Least length of the window.
        now: The host's clock.
    """
    number = _run_for(LEAD_IN_S, step, 0, now)
    synchronize()
    first = energy_j()
    if first.value is None:
        return Reading(None, first.reason)
    start = now()
    last_number = _run_for(window_s, step, number, now)
    synchronize()
    length_s = now() - start
    return _window(first.value, energy_j(), length_s, last_number - number)


def idle_window(
    energy_j: Callable[[], Reading[float]],
    synchronize: Callable[[], object],
    *,
    window_s: float = WINDOW_S,
    now: Callable[[], float] = perf_counter,
    wait: Callable[[float], object] = sleep,
) -> Reading[EnergyWindow]:
    """Read the counter before and after `window_s` seconds in which nothing runs. Once per launch is enough."""
    synchronize()
    wait(SETTLE_S)
    first = energy_j()
    if first.value is None:
        return Reading(None, first.reason)
    start = now()
    wait(window_s)
    length_s = now() - start
    return _window(first.value, energy_j(), length_s, 0)


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


def _window(first_j: float, last: Reading[float], window_s: float, steps: int) -> Reading[EnergyWindow]:
    if last.value is None:
        return Reading(None, last.reason)
    energy_j = last.value - first_j
    if energy_j <= 0:
        return Reading(None, f"the energy counter did not move in {window_s:.1f} s")
    return Reading(EnergyWindow(energy_j, energy_j * COUNTER_PERIOD_S / window_s, window_s, steps))


def _per_step(window: Reading[EnergyWindow], unit: str, parts: float = 1) -> Metric:
    """Return the energy of a step divided by `parts`, with the bounds of its uncertainty."""
    if window.value is None:
        return Metric(None, unit, noise="sampled", reason=window.reason)
    low, value, high = (
        (window.value.energy_j + sign * window.value.uncertainty_j) / (window.value.steps * parts)
        for sign in (-1, 0, 1)
    )
    return Metric(value, unit, noise="sampled", low=low, high=high)
