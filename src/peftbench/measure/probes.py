"""The probes of a device: memory, clocks, throttling, energy. They read around the timed rounds, never within them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

from peftbench.measure.busy.profiling import take_busy
from peftbench.measure.energy.nvml import Nvml, Reading, sampled
from peftbench.measure.energy.throttle import Patience, decide, limits
from peftbench.measure.energy.window import busy_window, energy_metrics, idle_window
from peftbench.measure.memory.device_memory import memory_metrics, parts_metrics, release, round_parts, step_memory
from peftbench.measure.memory.resident import resident

if TYPE_CHECKING:
    import torch

    from peftbench.measure.energy.window import EnergyWindow
    from peftbench.measure.time.rounds import Rounds, TimedRound
    from peftbench.measure.trial import Trial
    from peftbench.records.record import KernelTime, Metric


@dataclass(frozen=True, slots=True)
class ProbeFindings:
    """The metrics and the warnings of one probe."""

    metrics: dict[str, Metric] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    longest_kernels: tuple[KernelTime, ...] | None = None
    """The kernels that took most of the device's time; None if the probe does not look at kernels."""


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

    def busy(self, trial: Trial, *, phases: Sequence[str], time_s: float) -> ProbeFindings:
        """Profile a few further rounds: how long the device is busy in one, and with what.

        Args:
            trial: The trial, which is warm.
            phases: Names of the phases of a round.
            time_s: Median time of its timed rounds.
        """
        ...

    def energy(self, trial: Trial, *, tokens: float | None) -> ProbeFindings:
        """Measure the joules of further rounds.

        Args:
            trial: The trial, which is warm.
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

    def busy(self, trial: Trial, *, phases: Sequence[str], time_s: float) -> ProbeFindings:
        """Return nothing: a CPU is busy as long as its round takes."""
        del trial, phases, time_s
        return ProbeFindings()

    def energy(self, trial: Trial, *, tokens: float | None) -> ProbeFindings:
        """Return nothing: a CPU has no energy counter that a user may read."""
        del trial, tokens
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

    def busy(self, trial: Trial, *, phases: Sequence[str], time_s: float) -> ProbeFindings:
        """Return busy time, kernels and families from a profile, or the reason why there is none."""
        metrics, longest = take_busy(trial, self._device, phases=phases, time_s=time_s)
        return ProbeFindings(metrics, longest_kernels=longest)

    def energy(self, trial: Trial, *, tokens: float | None) -> ProbeFindings:
        """Return joules with and without the idle draw."""
        synchronize = partial(_synchronize, self._device)
        if self._idle is None:
            self._idle = idle_window(self._nvml.energy_j, synchronize)
        if trial.prepare is None:
            busy = busy_window(self._nvml.energy_j, _unmarked(trial), synchronize)
        else:
            busy = Reading(None, "the energy of each round's preparation would be counted, too")
        return ProbeFindings(energy_metrics(busy, self._idle, tokens=tokens))

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
