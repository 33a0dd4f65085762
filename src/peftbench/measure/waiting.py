"""How long the rounds waited for a core of the CPU, because other programs had it.

Case and reference share what slows the machine. They do not share a wait: it lasts milliseconds and hits the one or the
other. Waits that are rare move no median. Where they are frequent, ratios differ from those on an idle machine, for
all launches of a run alike, so that further launches do not show it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from peftbench.measure.findings import ProbeFindings
from peftbench.records.conditions import SHARED_CPU
from peftbench.records.record import Metric

Waited = Callable[[], "float | None"]
MOST: Final = 0.2
"""Share of the time up to which a wait is rare: the median of rounds is then one that did not wait."""
_THREADS: Final = Path("/proc/self/task")


def waited_s(threads: Path = _THREADS) -> float | None:
    """Return for how many seconds the threads of this process were ready and had no core, all together.

    Linux counts it (`schedstat`, the second number, in ns). None where the system does not tell.
    """
    total_ns, known = 0, False
    for path in threads.glob("*/schedstat"):
        try:
            total_ns += int(path.read_text().split()[1])
        except (OSError, ValueError, IndexError):  # the thread has ended, or the kernel keeps no statistics
            continue
        known = True
    return total_ns / 1e9 if known else None


class Waiting:
    """Looks at the waits before and after something that is timed."""

    def __init__(self, *, now: Callable[[], float] = time.perf_counter, waited: Waited | None = None) -> None:
        """Take the first look.

        Args:
            now: The present moment in seconds.
            waited: Seconds for which the process has waited for a core. None: the system's.
        """
        self._now, self._waited = now, waited or waited_s
        self._begun_s, self._before_s = now(), self._waited()

    def findings(self) -> ProbeFindings:
        """Return the share of the time since the first look that was waited, and a warning if it is large."""
        after_s, passed_s = self._waited(), self._now() - self._begun_s
        if after_s is None or self._before_s is None or passed_s <= 0:
            return ProbeFindings()
        share = min(max(after_s - self._before_s, 0.0) / passed_s, 1.0)
        warning = f"{SHARED_CPU}: rounds waited for a core for more than {MOST:.0%} of their time"
        return ProbeFindings({"waited_share": Metric(share, "1", noise="sampled")}, (warning,) if share > MOST else ())
