"""Resident set size of this process, and its peak within one call, as the kernel keeps it.

No thread samples it: Linux keeps a high-water mark, which a process can set back. The sizes move in pages and depend
on the allocator, so people can read them, but no gate compares them exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from peftbench.records.record import Metric

STATUS: Final = Path("/proc/self/status")
CLEAR_REFS: Final = Path("/proc/self/clear_refs")
_FORGET_PEAK: Final = "5"
"""The text to write to `clear_refs`, which sets the high-water mark back to the present size (proc(5))."""


@dataclass(frozen=True, slots=True)
class Resident:
    """Resident set size around and within one call."""

    after_bytes: int
    peak_bytes: int | None
    reason: str = ""
    """Why there is no peak, or ''."""

    def metrics(self) -> dict[str, Metric]:
        """Return size after the call and peak within it, as metrics of a record."""
        return {
            "resident_bytes": Metric(value=self.after_bytes, unit="B", noise="sampled"),
            "resident_peak_bytes": Metric(value=self.peak_bytes, unit="B", noise="sampled", reason=self.reason),
        }


def resident(run: Callable[[], object]) -> Resident:
    """Call `run` and return the resident set size of this process after the call, and the peak within it.

    Where the system cannot set its high-water mark back, there is no peak. `run` is called anyway.
    """
    reason = _forget_peak()
    run()
    peak_bytes = None if reason else _peak_bytes()
    return Resident(after_bytes=psutil.Process().memory_info().rss, peak_bytes=peak_bytes, reason=reason)


def _forget_peak() -> str:
    """Set the kernel's high-water mark back; return the reason if that cannot be done, or ''."""
    try:
        CLEAR_REFS.write_text(_FORGET_PEAK)
    except OSError as error:
        return f"the peak of the resident set cannot be set back: {CLEAR_REFS}: {error.strerror}"
    return "" if _peak_bytes() is not None else f"{STATUS} keeps no peak of the resident set"


def _peak_bytes() -> int | None:
    for line in STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
