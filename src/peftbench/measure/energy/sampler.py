"""Samples NVML in a thread of its own while steps run for an energy window, and never while rounds are timed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Final, Self

from peftbench.measure.energy.nvml import Reading, bytes_of
from peftbench.records.record import Metric

if TYPE_CHECKING:
    from peftbench.measure.energy.nvml import Nvml

MOST_POINTS: Final = 200
"""Largest number of points of a timeline in a record."""
PROCESSES_EVERY: Final = 5
"""Samples between two looks at the processes, which take a lock of the driver."""
DIGITS: Final = 5
"""Significant digits of a number in a timeline."""

_METRICS: Final = {
    "device_bytes": ("device_{}_bytes", "B"),
    "process_bytes": ("process_{}_bytes", "B"),
    "power_w": ("power_{}_w", "W"),
    "sm_clock_mhz": ("sm_clock_{}_mhz", "MHz"),
    "utilization": ("utilization_{}", "1"),
    "temperature_c": ("temperature_{}_c", "degC"),
}
"""Name of a reading -> name of its metrics (`{}` is `peak` or `mean`), and their unit."""

Sample = Mapping[str, Reading[int] | Reading[float]]
"""Name of a reading -> reading."""


def nvml_sample(nvml: Nvml, number: int) -> dict[str, Reading[int] | Reading[float]]:
    """Return one sample of a device. Every `PROCESSES_EVERY`-th one looks at the processes, too."""
    found: dict[str, Reading[int] | Reading[float]] = {
        "device_bytes": nvml.memory().used_bytes,
        "power_w": nvml.power_w(),
        "sm_clock_mhz": nvml.sm_clock_mhz(),
        "utilization": nvml.utilization(),
        "temperature_c": nvml.temperature_c(),
    }
    if number % PROCESSES_EVERY == 0:
        processes = nvml.processes()
        found["process_bytes"] = bytes_of(processes)
        found["processes"] = processes.map(len)
    return found


@dataclass
class Sampler:
    """Takes a sample at each tick of a fixed rate, from a thread, within a context.

    A tick that is missed, because a sample took longer, is left out.
    """

    take: Callable[[int], Sample]
    """Takes a sample, given its number."""
    rate_hz: float
    now: Callable[[], float] = perf_counter
    samples: list[tuple[float, Sample]] = field(default_factory=list)
    """Time since the start, and sample."""
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="peftbench-nvml", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        start, tick = self.now(), 0
        while not self._ended.is_set():
            at_s = self.now() - start
            self.samples.append((at_s, self.take(len(self.samples))))
            tick = max(tick + 1, int((self.now() - start) * self.rate_hz) + 1)
            self._ended.wait(max(0.0, tick / self.rate_hz - (self.now() - start)))


def sample_metrics(samples: Sequence[tuple[float, Sample]]) -> dict[str, Metric]:
    """Return peak and mean of each reading over all samples, or the reason why there is none."""
    metrics = {}
    for name, (pattern, unit) in _METRICS.items():
        readings = [sample[name] for _, sample in samples if name in sample]
        values = [reading.value for reading in readings if reading.value is not None]
        reason = "" if values else next((reading.reason for reading in readings), "no sample was taken")
        for kind, value in (("peak", max(values, default=None)), ("mean", _mean(values))):
            metrics[pattern.format(kind)] = Metric(value, unit, "neither", "sampled", reason=reason)
    metrics["nvml_samples"] = Metric(len(samples), "1", "neither", "sampled")
    return metrics


def timeline(samples: Sequence[tuple[float, Sample]]) -> dict[str, tuple[float, ...]]:
    """Return the samples as series, at most `MOST_POINTS` long: `t_s`, and each reading that was ever available.

    All series have one length. Where a reading is missing in a sample, the last one before it is repeated.
    """
    kept = samples[:: max(1, -(-len(samples) // MOST_POINTS))]
    series = {"t_s": tuple(_rounded(at_s) for at_s, _ in kept)}
    for name in _METRICS:
        values = [sample[name].value if name in sample else None for _, sample in kept]
        known = next((value for value in values if value is not None), None)
        if known is not None:
            row = []
            for value in values:
                known = known if value is None else value
                row.append(_rounded(known))
            series[name] = tuple(row)
    return series


def most_processes(samples: Sequence[tuple[float, Sample]]) -> int | None:
    """Return the largest number of compute processes that a sample saw; None if none looked."""
    counts = [sample["processes"].value for _, sample in samples if "processes" in sample]
    return max((int(count) for count in counts if count is not None), default=None)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
