"""Resident set size of this process, and its peak within one call, as the kernel itself keeps it.

No thread samples anything: Linux keeps a high-water mark, and forgets it on request. It moves in pages and with the
allocator's habits, so it is for people to read, never for an exact gate.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from peftbench.record import Metric

STATUS: Final = Path("/proc/self/status")
CLEAR_REFS: Final = Path("/proc/self/clear_refs")
_FORGET_PEAK: Final = "5"
"""What proc(5) asks to be written to set the high-water mark back to the present size."""


def size() -> Metric:
    """Return the resident set size of this process now, in bytes."""
    return Metric(value=psutil.Process().memory_info().rss, unit="B", noise="sampled")


def peak(run: Callable[[], object]) -> Metric:
    """Call `run` and return the highest resident set size of this process within it, in bytes.

    Where the system cannot set its high-water mark back, the metric has no value and says so; `run` is called anyway.
    """
    reason = _forget_peak()
    run()
    return Metric(value=None if reason else _peak_bytes(), unit="B", noise="sampled", reason=reason)


def _forget_peak() -> str:
    """Set the kernel's mark back; returns the reason if that cannot be done."""
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
