"""Resident set size of this process, and its peak within one call, as the kernel itself keeps it.

No thread samples anything: Linux keeps a high-water mark, and forgets it on request. It moves in pages and with the
allocator's habits, so it is for people to read, never for an exact gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from peftbench.record import Metric

_STATUS: Final = Path("/proc/self/status")
_CLEAR: Final = Path("/proc/self/clear_refs")
_FORGET_PEAK: Final = "5"
"""What proc(5) asks to be written to set the high-water mark back to the present size."""


@dataclass(frozen=True, slots=True)
class Resident:
    """Resident set size before, at the most within, and after one call."""

    before_bytes: int
    after_bytes: int
    peak_bytes: int | None
    reason: str = ""
    """Why there is no peak."""

    def metrics(self) -> Mapping[str, Metric]:
        """Return size after the call and peak within it, as metrics of a record."""
        return {
            "resident_bytes": Metric(value=self.after_bytes, unit="B", noise="sampled"),
            "resident_peak_bytes": Metric(value=self.peak_bytes, unit="B", noise="sampled", reason=self.reason),
        }


def resident(run: Callable[[], object]) -> Resident:
    """Call `run` and return the resident set size of the process around and within it."""
    before_bytes = psutil.Process().memory_info().rss
    reason = _forget_peak()
    run()
    peak_bytes = None if reason else _peak_bytes()
    after_bytes = psutil.Process().memory_info().rss
    return Resident(before_bytes=before_bytes, after_bytes=after_bytes, peak_bytes=peak_bytes, reason=reason)


def _forget_peak() -> str:
    """Set the kernel's mark back; returns the reason if that cannot be done."""
    try:
        _CLEAR.write_text(_FORGET_PEAK)
    except OSError as error:
        return f"the peak of the resident set cannot be set back here: {_CLEAR}: {error.strerror}"
    return "" if _peak_bytes() is not None else f"this kernel keeps no peak of the resident set in {_STATUS}"


def _peak_bytes() -> int | None:
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
