"""How noisy a machine is, which slowdown can be seen on it, and what can be improved."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from peftbench.gate.constants import Rule
from peftbench.gate.decision import Shifts, detectable, tested
from peftbench.gate.moments import Array
from peftbench.records.record import Launch, Run


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard deviation between launches of the same code, in log units; median over cases."""

    ratio: float
    """Spread of x, the ratio of a case's time to its reference."""
    time: float
    """Spread of a case's raw time."""
    launches: int
    """Most launches of a case."""


def noise_of(run: Run) -> Noise:
    """Return the noise of a run; NaN if no case has two launches."""
    ratios, times, most = [], [], 0
    for record in run.records:
        xs = [launch.x for launch in record.launches if launch.x is not None]
        most = max(most, len(xs))
        if len(xs) > 1:
            ratios.append(float(np.std(xs, ddof=1)))
            times.append(float(np.std([math.log(launch.time_s) for launch in record.launches], ddof=1)))
    return Noise(median(ratios) if ratios else math.nan, median(times) if times else math.nan, most)


def smallest_slowdowns(noise: Noise, launches: Sequence[int], rule: Rule) -> list[float]:
    """Return the slowdown that is found with the rule's power against a full baseline, for each number of new launches.

    Slowdowns are shares: 0.05 is 5 %.
    """
    count = np.array(launches)
    base = np.full_like(count, rule.full_baseline)
    df = base + count - 2 + rule.prior_launches
    zero = np.zeros(len(count))
    result: Shifts = tested(zero, np.full(len(count), noise.ratio), df, base_count=base, new_count=count, rule=rule)
    shifts: Array = detectable(result, rule)
    return np.expm1(shifts).tolist()  # type: ignore[no-any-return] # floats


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What is known of a machine before it measures. None stands for unknown."""

    cores: int
    """Cores that this process may use."""
    governors: frozenset[str] = frozenset()
    boost: bool | None = None
    load: float | None = None
    """Load average over a minute, before any case was run."""
    quota: float | None = None
    """CPU time that a container may use, in cores."""
    virtual: bool = False
    swap_used_bytes: int = 0

    @classmethod
    def read(cls, root: Path = Path("/")) -> Machine:
        """Read the machine from files of Linux below `root`. On other systems little is known."""
        import psutil

        governors = {_text(path) for path in root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")}
        return cls(
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            governors=frozenset(filter(None, governors)),
            boost=_boost(root),
            load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            quota=_quota(_text(root / "sys/fs/cgroup/cpu.max")),
            virtual=" hypervisor" in _text(root / "proc/cpuinfo"),
            swap_used_bytes=int(psutil.swap_memory().used),
        )


def advice(machine: Machine, *, threads: int, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield one sentence for each thing that can be improved, the most useful first."""
    if machine.load is not None and machine.load > 0.2 * machine.cores:
        yield f"other work is running (load {machine.load:.1f} on {machine.cores} cores): end it, or measure at night"
    if threads > machine.cores:
        yield f"{threads} threads share {machine.cores} cores: lower --peftbench-threads"
    if machine.quota is not None and machine.quota < machine.cores:
        yield f"a quota of {machine.quota:g} cores stops the process while it is timed: use whole, reserved cores"
    if machine.governors - {"performance"}:
        found = ", ".join(sorted(machine.governors))
        yield f"the frequency governor is {found}: `sudo cpupower frequency-set -g performance`"
    if machine.boost:
        yield "the clock boosts while the chip is cool: switch it off to compare sessions"
    if machine.swap_used_bytes > 100e6:  # noqa: PLR2004 - a little swap that is never read does no harm
        yield f"{machine.swap_used_bytes / 1e6:.0f} MB are swapped out: free memory"
    if machine.virtual:
        yield "this is a virtual machine: neighbours come and go; prefer --peftbench-against to a stored baseline"
    if environment.get("OMP_NUM_THREADS") not in (None, str(threads)):
        yield f"OMP_NUM_THREADS is {environment['OMP_NUM_THREADS']}, and cases run on {threads} thread(s): unset it"


def seconds_a_launch(run: Run, count: int) -> float:
    """Return the seconds that a launch takes, start-up included."""
    return float(run.notes.get("duration_s", 0.0)) / max(count, 1)


def drift(run: Run) -> float:
    """Return the change of raw time from the first to the last launch, as a share; median over cases."""

    def change(launches: Sequence[Launch]) -> float:
        return math.log(launches[-1].time_s / launches[0].time_s)

    changes = [change(record.launches) for record in run.records if len(record.launches) > 1]
    return math.expm1(median(changes)) if changes else 0.0


def _boost(root: Path) -> bool | None:
    if text := _text(root / "sys/devices/system/cpu/intel_pstate/no_turbo"):
        return text == "0"
    if text := _text(root / "sys/devices/system/cpu/cpufreq/boost"):
        return text == "1"
    return None


def _quota(text: str) -> float | None:
    """Read `max 100000` or `150000 100000` (microseconds of CPU time, and their period) as a number of cores."""
    words = text.split()
    if len(words) != 2 or not words[0].isdecimal():  # noqa: PLR2004 - a quota and a period
        return None
    return int(words[0]) / int(words[1])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
