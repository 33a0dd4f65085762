"""The probes of a device: memory, clocks, throttling, energy. They read around the timed rounds, never within them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

from peftbench.measure.energy.nvml import Nvml, Reading, sampled
from peftbench.measure.energy.throttle import Patience, decide, limits
from peftbench.measure.energy.window import busy_window, energy_metrics, idle_window
from peftbench.measure.memory.device_memory import memory_metrics, parts_metrics, release, round_parts, step_memory
from peftbench.measure.memory.resident import resident
from peftbench.measure.time.clock import CudaClock, launch_bound
from peftbench.records.record import Metric

if TYPE_CHECKING:
    import torch

    from peftbench.measure.energy.window import EnergyWindow
    from peftbench.measure.time.rounds import Rounds, TimedRound
    from peftbench.measure.trial import Trial


@dataclass(frozen=True, slots=True)
class ProbeFindings:
    """The metrics and the warnings of one probe."""

    metrics: dict[str, Metric] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Probes(Protocol):
    """The readings of one device."""

    exclusive: bool
    """Whether a reference is dropped when its case ends, since the next case may need all of the memory."""

    def memory(self, trial: Trial, timed: TimedRound) -> dict[str, Metric]:
        """Return the memory of a warm round."""
        ...

    def rounds(self, take: Callable[[], Rounds]) -> tuple[Rounds, ProbeFindings]:
        """Return the rounds and the state of the device; rounds in which it slowed down are taken again."""
        ...

    def after(self, trial: Trial, *, time_s: float, tokens: float | None) -> ProbeFindings:
        """Measure what needs further rounds: energy, and whether the host limits the round.

        Args:
            trial: The trial, which is warm.
            time_s: Median time of its rounds.
            tokens: Tokens of a batch without padding; None if a round works on no batch.
        """
        ...

    def fingerprint(self) -> dict[str, str]:
        """Return the properties of the device that must be equal for times to be compared."""
        ...

    def close(self) -> None:
        """Release the device."""
        ...


def probes_for(device: torch.device) -> Probes:
    """Return the probes of a device."""
    return CudaProbes(device) if device.type == "cuda" else CpuProbes()


class CpuProbes:
    """The probes of a CPU: resident memory."""

    exclusive = False

    def memory(self, trial: Trial, timed: TimedRound) -> dict[str, Metric]:
        """Return the bytes that model and optimizer own in one round, and the resident set size around another one."""
        trial.ready_after_previous(trial.representative)
        owned = round_parts(trial, trial.representative)
        return {**parts_metrics(owned), **resident(partial(timed, 0)).metrics()}

    def rounds(self, take: Callable[[], Rounds]) -> tuple[Rounds, ProbeFindings]:
        """Take the rounds."""
        return take(), ProbeFindings()

    def after(self, trial: Trial, *, time_s: float, tokens: float | None) -> ProbeFindings:
        """Return nothing: a CPU has neither an energy counter nor kernel launches."""
        del trial, time_s, tokens
        return ProbeFindings()

    def fingerprint(self) -> dict[str, str]:
        """Return nothing: the run's fingerprint holds versions and CPU model already."""
        return {}

    def close(self) -> None:
        """Do nothing: no resource is held."""


class CudaProbes:
    """The probes of a CUDA device: PyTorch's allocator and NVML."""

    exclusive = True

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._patience = Patience()
        self._resources = ExitStack()
        self._nvml = self._resources.enter_context(Nvml.of(device))
        self._idle: Reading[EnergyWindow] | None = None

    def memory(self, trial: Trial, timed: TimedRound) -> dict[str, Metric]:
        """Return the allocator's peaks over a warm step, their parts, and NVML's readings.

        The allocator's cache is emptied first. What earlier passes left in it would count as reserved.
        """
        del timed
        release(self._device)
        return memory_metrics(step_memory(trial, self._device, self._nvml))

    def rounds(self, take: Callable[[], Rounds]) -> tuple[Rounds, ProbeFindings]:
        """Take the rounds between two readings of the device's state; repeat them if the device slowed down."""
        attempt = 0
        while True:
            attempt += 1
            before = self._nvml.state()
            rounds = take()
            after = self._nvml.state()
            decision = decide(before, after, attempt=attempt, patience=self._patience)
            if not decision.again:
                break
            time.sleep(self._patience.pause_s)
        metrics = {
            "sm_clock_mhz": sampled(after.sm_clock_mhz, "MHz"),
            "memory_clock_mhz": sampled(after.memory_clock_mhz, "MHz"),
            "application_sm_clock_mhz": sampled(after.application_sm_clock_mhz, "MHz"),
            "application_memory_clock_mhz": sampled(after.application_memory_clock_mhz, "MHz"),
            "power_limit_w": sampled(after.power_limit_w, "W"),
            "temperature_c": sampled(after.temperature_c, "degC"),
        }
        held_back = limits(before, after)
        notes = [decision.warning, f"the clock was held back by: {', '.join(held_back)}" if held_back else ""]
        return rounds, ProbeFindings(metrics, tuple(filter(None, notes)))

    def after(self, trial: Trial, *, time_s: float, tokens: float | None) -> ProbeFindings:
        """Return joules with and without the idle draw, and a warning if the host limits the round."""
        synchronize = partial(_synchronize, self._device)
        if self._idle is None:
            self._idle = idle_window(self._nvml.energy_j, synchronize)
        if trial.prepare is None:
            busy = busy_window(self._nvml.energy_j, _unmarked(trial), synchronize)
        else:
            busy = Reading(None, "the energy of each round's preparation would be counted, too")
        metrics = energy_metrics(busy, self._idle, tokens=tokens)
        queued_s = CudaClock(self._device).queued_s(partial(trial.run, 0), time_s) if trial.prepare is None else None
        metrics["queued_s"] = Metric(queued_s, "s", noise="sampled", reason="" if queued_s else "could not be queued")
        bound = queued_s is not None and launch_bound(time_s, queued_s)
        return ProbeFindings(metrics, ("launch-bound: the host, not the device, sets the time",) if bound else ())

    def fingerprint(self) -> dict[str, str]:
        """Return the driver version and whether error correction (ECC) is on."""
        driver, ecc = self._nvml.driver_version(), self._nvml.ecc()
        return {
            "driver": driver.value or f"not available: {driver.reason}",
            "ecc": str(ecc.value) if ecc.value is not None else f"not available: {ecc.reason}",
        }

    def close(self) -> None:
        """Close NVML."""
        self._resources.close()


def _unmarked(trial: Trial) -> Callable[[int], object]:
    return lambda number: trial.run(number, lambda: None)


def _synchronize(device: torch.device) -> None:
    import torch

    torch.cuda.synchronize(device)
