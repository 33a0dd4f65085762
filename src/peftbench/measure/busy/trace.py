"""Reads the trace of a profiler, in Chrome's format, as `torch.profiler` exports it.

A kernel belongs to the round, and to the phase, in which the host launched it. The profiler gives launch and kernel one
correlation number. The host runs ahead of the device, so the kernel's own time would name a later phase.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROUND: Final = "peftbench round"
"""Name of the range around a profiled round."""
PROBE: Final = "peftbench probe"
"""Name of the range around one kernel that is always launched. A trace without it saw nothing of the device."""
PHASE: Final = "peftbench phase "
"""What the names of ranges around phases begin with. The phase follows."""

_DEVICE: Final = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
"""Categories of intervals in which the device works. Annotations and waits are drawn on its time line, too."""
_LAUNCHES: Final = frozenset({"cuda_runtime", "cuda_driver"})
"""Categories of calls of the host that launch work."""
_RANGE: Final = "user_annotation"
_US: Final = 1e-6


@dataclass(frozen=True, slots=True)
class DeviceInterval:
    """One kernel, copy or set on the device."""

    name: str
    category: str
    """`kernel`, `gpu_memcpy` or `gpu_memset`."""
    stream: int
    start_s: float
    end_s: float
    phase: str = ""
    """Phase in which the host launched it; empty outside of all phases."""

    @property
    def duration_s(self) -> float:
        """Seconds from start to end."""
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Trace:
    """What the device did in each profiled round."""

    rounds: tuple[tuple[DeviceInterval, ...], ...]
    """The intervals of each round, in order of start. A round that launches nothing has none."""
    saw_device: bool
    """Whether the probe's kernel, or any other, was seen. An empty round then means an idle device."""


@dataclass(frozen=True, slots=True)
class _Range:
    name: str
    start_us: float
    end_us: float


def read_trace(path: Path, *, device: int | None = None) -> Trace:
    """Return what a trace file holds of the device's work.

    Args:
        path: A file that `torch.profiler` exported.
        device: Index of the device. Intervals of other devices are left out. None: all devices.

    Raises:
        ValueError: the file is no such trace.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8", errors="replace"), strict=False)
    except json.JSONDecodeError as error:
        raise ValueError(f"the profiler's trace is no JSON: {error}") from error
    events = data.get("traceEvents") if isinstance(data, Mapping) else data
    if not isinstance(events, list):
        raise ValueError("the profiler's trace has no events")  # noqa: TRY004 - the content is wrong, not a type of ours
    return trace_of([event for event in events if isinstance(event, Mapping)], device=device)


def trace_of(events: Iterable[Mapping[str, Any]], *, device: int | None = None) -> Trace:
    """Return what the events of a trace hold of the device's work; see `read_trace`."""
    complete = [event for event in events if event.get("ph") == "X"]
    ranges = sorted(map(_range, (one for one in complete if one.get("cat") == _RANGE)), key=lambda one: one.start_us)
    rounds = [one for one in ranges if one.name == ROUND]
    phases = [one for one in ranges if one.name.startswith(PHASE)]
    probes = [one for one in ranges if one.name == PROBE]
    launched_us = {
        _argument(event, "correlation"): float(event["ts"]) for event in complete if event.get("cat") in _LAUNCHES
    }
    found: list[list[DeviceInterval]] = [[] for _ in rounds]
    saw_device = False
    for event in complete:
        if event.get("cat") not in _DEVICE or not _is_on(event, device):
            continue
        at_us = launched_us.get(_argument(event, "correlation"), float(event["ts"]))
        saw_device = saw_device or _holding(probes, at_us) is not None
        place = _holding(rounds, at_us)
        if place is not None:
            phase = _holding(phases, at_us)
            found[place].append(_interval(event, "" if phase is None else phases[phase].name.removeprefix(PHASE)))
    ordered = tuple(tuple(sorted(intervals, key=lambda one: one.start_s)) for intervals in found)
    return Trace(ordered, saw_device or any(ordered))


def _range(event: Mapping[str, Any]) -> _Range:
    start_us = float(event["ts"])
    return _Range(str(event.get("name")), start_us, start_us + float(event.get("dur", 0.0)))


def _interval(event: Mapping[str, Any], phase: str) -> DeviceInterval:
    start_s = float(event["ts"]) * _US
    return DeviceInterval(
        name=str(event.get("name")),
        category=str(event["cat"]),
        stream=int(_argument(event, "stream") or 0),
        start_s=start_s,
        end_s=start_s + float(event.get("dur", 0.0)) * _US,
        phase=phase,
    )


def _holding(ranges: list[_Range], at_us: float) -> int | None:
    """Return the place of the range that holds a moment, or None. Ranges are sorted and do not overlap."""
    place = bisect_right(ranges, at_us, key=lambda one: one.start_us) - 1
    return place if place >= 0 and at_us <= ranges[place].end_us else None


def _argument(event: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - a number, or None
    arguments = event.get("args")
    return arguments.get(name) if isinstance(arguments, Mapping) else None


def _is_on(event: Mapping[str, Any], device: int | None) -> bool:
    theirs = _argument(event, "device")
    return device is None or theirs is None or theirs == device
