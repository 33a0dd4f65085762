"""Reduces the intervals of a round to busy time, kernels, families and phases: pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from peftbench.measure.busy.families import FAMILIES, Family, family_of
from peftbench.records.record import KernelTime, Metric

if TYPE_CHECKING:
    from peftbench.measure.busy.trace import DeviceInterval, Trace

LONGEST: Final = 10
"""Number of kernels that a record names."""
NAME_CHARACTERS: Final = 120
"""Longest name of a kernel in a record. Names of templates have thousands of characters."""
UNSEEN: Final = (
    "the profiler saw nothing of the device: CUPTI is missing, not permitted, or held by another profiler (nsys, DCGM)"
)


@dataclass(frozen=True, slots=True)
class BusyRound:
    """What the device did in one round."""

    busy_s: float
    """Length of the union of all intervals, over all streams."""
    kernels: int
    """Number of kernels. Copies and sets do not count."""
    family_s: dict[Family, float]
    """Summed durations by family. Kernels that run side by side make the sum larger than `busy_s`."""
    phase_s: dict[str, float]
    """Length of the union of the intervals that each phase launched."""
    longest: tuple[KernelTime, ...]
    """The kernels, copies and sets with the largest summed duration, by name."""


def union_s(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals, given as start and end."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def busy_round(intervals: Sequence[DeviceInterval], phases: Sequence[str]) -> BusyRound:
    """Return what a round's intervals say.

    Args:
        intervals: Kernels, copies and sets of the round.
        phases: Names of the round's phases. Each has an entry in `phase_s`, also if it launched nothing.
    """
    families: dict[Family, float] = dict.fromkeys(FAMILIES, 0.0)
    by_phase: dict[str, list[tuple[float, float]]] = {phase: [] for phase in phases}
    by_name: dict[tuple[str, Family], list[float]] = defaultdict(list)
    for one in intervals:
        family = family_of(one.name, category=one.category, phase=one.phase)
        families[family] += one.duration_s
        by_name[one.name, family].append(one.duration_s)
        if one.phase in by_phase:
            by_phase[one.phase].append((one.start_s, one.end_s))
    longest = sorted(by_name.items(), key=lambda item: (-sum(item[1]), item[0]))[:LONGEST]
    return BusyRound(
        busy_s=union_s((one.start_s, one.end_s) for one in intervals),
        kernels=sum(one.category == "kernel" for one in intervals),
        family_s=families,
        phase_s={phase: union_s(found) for phase, found in by_phase.items()},
        longest=tuple(
            KernelTime(_short(name), family, len(durations), sum(durations)) for (name, family), durations in longest
        ),
    )


def typical(rounds: Sequence[BusyRound]) -> BusyRound:
    """Return the round with the median busy time, the lower of two. Its numbers belong together."""
    return sorted(rounds, key=lambda one: one.busy_s)[(len(rounds) - 1) // 2]


def busy_metrics(
    trace: Trace, *, phases: Sequence[str], time_s: float
) -> tuple[dict[str, Metric], tuple[KernelTime, ...]]:
    """Return the metrics of a profiled case, and its longest kernels.

    Args:
        trace: The trace of some rounds.
        phases: Names of a round's phases.
        time_s: Median time of a timed round. The profiler slows the host, so the share is taken of this time.
    """
    if not trace.saw_device or not trace.rounds:
        return missing_metrics(UNSEEN), ()
    rounds = [busy_round(intervals, phases) for intervals in trace.rounds]
    found = typical(rounds)
    spread = sorted(one.busy_s for one in rounds)
    seconds = {
        **{f"{family}_kernels_s": value for family, value in found.family_s.items()},
        **{f"{phase}_busy_s": value for phase, value in found.phase_s.items()},
    }
    metrics = {
        "busy_s": Metric(found.busy_s, "s", noise="sampled", low=spread[0], high=spread[-1]),
        "busy_share": Metric(min(1.0, found.busy_s / time_s), "1", better="higher", noise="sampled"),
        "kernels": Metric(found.kernels, "1", noise="sampled"),
        **{name: Metric(value, "s", noise="sampled") for name, value in seconds.items()},
    }
    return metrics, found.longest


def missing_metrics(reason: str) -> dict[str, Metric]:
    """Return the metrics of a case whose busy time is not known, with the reason."""
    return {
        "busy_s": Metric(None, "s", noise="sampled", reason=reason),
        "busy_share": Metric(None, "1", better="higher", noise="sampled", reason=reason),
        "kernels": Metric(None, "1", noise="sampled", reason=reason),
    }


def _short(name: str) -> str:
    return name if len(name) <= NAME_CHARACTERS else name[: NAME_CHARACTERS - 3] + "..."
