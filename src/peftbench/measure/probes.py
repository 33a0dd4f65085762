"""The probes of a device: memory, clocks, throttling, energy. They read around the timed rounds, never within them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from peftbench.devices.residency import RESIDENT_SHARE, free_bytes
from peftbench.errors import UserError
from peftbench.measure.busy.profiling import take_busy
from peftbench.measure.energy.nvml import Nvml, Reading, sampled
from peftbench.measure.energy.pace import paced
from peftbench.measure.energy.sampler import Sampler, most_processes, nvml_sample, sample_metrics, timeline
from peftbench.measure.energy.sharing import Sharing, look_for_others, neighbours
from peftbench.measure.energy.throttle import Patience, decide, limits
from peftbench.measure.energy.window import busy_window, counter_period, energy_metrics, idle_window
from peftbench.measure.findings import ProbeFindings
from peftbench.measure.memory.device_memory import (
    Parts,
    ResidentMemory,
    memory_metrics,
    parts_metrics,
    release,
    round_parts,
    step_memory,
)
from peftbench.measure.memory.resident import resident

if TYPE_CHECKING:
    import torch

    from peftbench.config.settings import Settings
    from peftbench.measure.energy.window import EnergyWindow
    from peftbench.measure.findings import Probes
    from peftbench.measure.time.rounds import Rounds
    from peftbench.measure.trial import Trial
    from peftbench.records.record import Metric


def probes_for(device: torch.device, settings: Settings) -> Probes:
    """Return the probes of a device.

    Raises:
        UserError: energy is asked for, and the device has no counter.
    """
    if device.type != "cuda":
        reason: str = f"device {device} has no energy counter"
        probes: Probes = CpuProbes()
    else:
        probes = cuda = CudaProbes(device, energy=settings.energy != "off", rate_hz=settings.sampling_rate)
        reason = cuda.why_no_energy
    if settings.energy == "on" and reason:
        probes.close()
        raise UserError(f"--peftbench-energy=on: {reason}; leave the option out, or give off")
    return probes


class CpuProbes:
    """The probes of a CPU: resident memory."""

    beside = 0

    def room(self) -> float:
        """Return infinity: models on a CPU are small, and references were always kept."""
        return math.inf

    def between_cases(self, batches: Iterable[torch.Tensor]) -> None:
        """Do nothing: the memory of a CPU case is counted, not read off an allocator."""
        del batches

    def memory(self, trial: Trial) -> dict[str, Metric]:
        """Return the bytes that model and optimizer own in one round, and the resident set size around it."""
        trial.ready_after_previous(trial.representative)
        owned: list[Parts] = []
        size = resident(lambda: owned.append(round_parts(trial, trial.representative)))
        return {**parts_metrics(owned[0]), **size.metrics()}

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

    beside = 0

    def __init__(self, device: torch.device, *, energy: bool = True, rate_hz: float = 20.0) -> None:
        """Open NVML.

        Args:
            device: The device.
            energy: Whether joules are measured.
            rate_hz: Samples in a second, while steps run for an energy window.
        """
        self._device = device
        self._energy = energy
        self._rate_hz = rate_hz
        self._patience = Patience()
        self._resources = ExitStack()
        self._nvml = self._resources.enter_context(Nvml.of(device))
        self._idle: Reading[EnergyWindow] | None = None
        self._period_s = 0.0
        """Period after which the energy counter moves, once it was measured."""
        self._resident = ResidentMemory()

    @property
    def why_no_energy(self) -> str:
        """The reason why the device has no energy counter, or ''."""
        return self._nvml.energy_j().reason

    def room(self) -> float:
        """Return a share of the device's free memory."""
        return RESIDENT_SHARE * free_bytes(self._device)

    def between_cases(self, batches: Iterable[torch.Tensor]) -> None:
        """Note what the allocator holds: the template, references, and what earlier cases left."""
        self._resident = ResidentMemory.of(self._device, batches)

    def memory(self, trial: Trial) -> dict[str, Metric]:
        """Return the allocator's peaks over a warm step, their parts, and NVML's readings.

        The allocator's cache is emptied first. What earlier passes left in it would count as reserved.
        """
        release(self._device)
        return memory_metrics(step_memory(trial, self._device, self._nvml, self._resident))

    def rounds(self, take: Callable[[], Rounds]) -> tuple[Rounds, ProbeFindings]:
        """Take the rounds between two readings of the device's state; repeat them if the device slowed down."""
        attempt, others = 0, self._others()
        while True:
            attempt += 1
            before = self._nvml.state()
            rounds = take()
            after = self._nvml.state()
            decision = decide(before, after, attempt=attempt, patience=self._patience)
            if not decision.again:
                break
            time.sleep(self._patience.pause_s)
        others = others.joined(self._others())
        metrics = {
            **others.metrics(),
            "sm_clock_mhz": sampled(after.sm_clock_mhz, "MHz"),
            "memory_clock_mhz": sampled(after.memory_clock_mhz, "MHz"),
            "application_sm_clock_mhz": sampled(after.application_sm_clock_mhz, "MHz"),
            "application_memory_clock_mhz": sampled(after.application_memory_clock_mhz, "MHz"),
            "power_limit_w": sampled(after.power_limit_w, "W"),
            "temperature_c": sampled(after.temperature_c, "degC"),
        }
        held_back = limits(before, after)
        notes = [decision.warning, f"the clock was held back by: {', '.join(held_back)}" if held_back else ""]
        return rounds, ProbeFindings(metrics, (*filter(None, notes), *others.warnings))

    def busy(self, trial: Trial, *, phases: Sequence[str], time_s: float) -> ProbeFindings:
        """Return busy time, kernels and families from a profile, or the reason why there is none."""
        metrics, longest = take_busy(trial, self._device, phases=phases, time_s=time_s)
        return ProbeFindings(metrics, longest_kernels=longest)

    def energy(self, trial: Trial, *, tokens: float | None) -> ProbeFindings:
        """Return joules with and without the idle draw, and what a sampler saw while their steps ran."""
        off = "" if self._energy else "switched off: --peftbench-energy=off"
        if trial.prepare is not None:
            off = off or "the energy of each round's preparation would be counted, too"
        if off:
            unknown: Reading[EnergyWindow] = Reading(None, off)
            return ProbeFindings(energy_metrics(unknown, unknown, tokens=tokens))
        idle = self._idle_window()
        with Sampler(partial(nvml_sample, self._nvml), self._rate_hz) as sampler:
            synchronize = partial(_synchronize, self._device)
            step = paced(_unmarked(trial), self._device)
            busy = busy_window(self._nvml.energy_j, step, synchronize, period_s=self._period_s)
        seen = most_processes(sampler.samples)
        others = Sharing(neighbours(seen, beside=self.beside) if seen else None)
        return ProbeFindings(
            {
                **energy_metrics(busy, idle, tokens=tokens),
                **sample_metrics(sampler.samples),
                **(others.metrics() if others.shared else {}),
            },
            others.warnings,
            timeline=timeline(sampler.samples),
        )

    def _idle_window(self) -> Reading[EnergyWindow]:
        """Return the idle draw, which is measured once, with the period of the counter."""
        if self._idle is None:
            _synchronize(self._device)
            self._period_s = counter_period(self._nvml.energy_j)
            self._idle = idle_window(self._nvml.energy_j, period_s=self._period_s)
        return self._idle

    def _others(self) -> Sharing:
        import torch

        reserved_bytes = torch.cuda.memory_reserved(self._device) if self._device.type == "cuda" else 0
        return look_for_others(self._nvml, reserved_bytes=reserved_bytes, beside=self.beside)

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
