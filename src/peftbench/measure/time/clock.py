"""The clocks that time one round: the host's clock on the CPU, host and device on CUDA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from peftbench.devices.device import require_device

if TYPE_CHECKING:
    import torch

    from peftbench.measure.trial import Mark


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one round took."""

    wall_s: float
    """Host time from an idle device to an idle device."""
    phases_s: tuple[float, ...] = ()
    """Time of each phase, from the mark before it (or the start) to its mark: event time on CUDA, else host time."""
    device_s: float | None = None
    """Event time on the stream, first event to last, gaps between kernels included; None on the CPU."""
    prepared_s: float = 0.0
    """Host time of the preparation before the round. It is no part of the round's time."""


class Clock(Protocol):
    """Times one round."""

    def time(self, run: Callable[[Mark], object]) -> Timing:
        """Call `run` once, with a mark that it calls at the end of each of its phases."""
        ...


def clock_for(device: torch.device) -> Clock:
    """Return the clock of `device`.

    Raises:
        UserError: the device cannot be used here.
    """
    require_device(device)
    return CudaClock(device) if device.type == "cuda" else CpuClock()


@dataclass(frozen=True, slots=True)
class CpuClock:
    """Reads the host's clock at start, at each mark and at the end. It does nothing else."""

    now: Callable[[], float] = perf_counter

    def time(self, run: Callable[[Mark], object]) -> Timing:
        """Time one call of `run`."""
        now = self.now
        readings: list[float] = []
        append = readings.append

        def mark() -> None:
            append(now())

        start = now()
        run(mark)
        end = now()
        phases_s = tuple(second - first for first, second in pairwise([start, *readings]))
        return Timing(end - start, phases_s)


def _torch_cuda() -> Any:  # noqa: ANN401 - the module, or its stand-in
    import torch

    return torch.cuda


@dataclass(frozen=True, slots=True)
class CudaClock:
    """Synchronises at start and end only; records an event at start, at each mark and at the end.

    The events go to the stream that is current when the round begins, which is the one that the workload uses.
    Events are created once and recorded again in each round, so that a round after the first creates none.
    """

    device: torch.device
    cuda: Any = field(default_factory=_torch_cuda)
    now: Callable[[], float] = perf_counter
    _events: list[Any] = field(default_factory=list)

    def time(self, run: Callable[[Mark], object]) -> Timing:
        """Time one call of `run`; durations are read after the last synchronisation."""
        cuda, now = self.cuda, self.now
        mark, recorded = self._recorder(cuda.current_stream(self.device))
        cuda.synchronize(self.device)
        start = now()
        mark()
        run(mark)
        mark()
        cuda.synchronize(self.device)
        wall_s = now() - start
        events = recorded()
        phases_s = tuple(_elapsed_s(first, second) for first, second in pairwise(events[:-1]))
        return Timing(wall_s, phases_s, _elapsed_s(events[0], events[-1]))

    def _recorder(self, stream: object) -> tuple[Mark, Callable[[], Sequence[Any]]]:
        """Return two functions: one records the next event, the other returns all events recorded so far."""
        events, count = self._events, 0

        def mark() -> None:
            nonlocal count
            if count == len(events):
                events.append(self.cuda.Event(enable_timing=True))
            events[count].record(stream)
            count += 1

        return mark, lambda: events[:count]


def _elapsed_s(first: Any, second: Any) -> float:  # noqa: ANN401 - torch.cuda.Event, or its stand-in
    return float(first.elapsed_time(second)) / 1000
