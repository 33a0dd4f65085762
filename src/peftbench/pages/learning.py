"""Trainings and serving as rows: cost against quality, learning curves, and latency and memory against tasks served."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from peftbench.claims.evidence import Evidence, value
from peftbench.claims.intervals import Interval, Observation, interval
from peftbench.config.target import HIGHEST
from peftbench.pages.loads import series_of
from peftbench.pages.plots import Plot
from peftbench.records.record import Record
from peftbench.report.numbers import megabytes, milliseconds, significant
from peftbench.studies.training.results import CONVERGENCE, DEPLOYMENT, Training, trainings, under

MIXES: Final = {"uniform": "all tasks alike", "skewed": "few tasks often"}
"""Mix of requests -> what it is."""


def plots(evidence: Evidence) -> Iterator[Plot]:
    """Yield the charts of trainings and serving. The learning rate is each method's best."""
    chosen = under("tuned", trainings(evidence.records, CONVERGENCE), evidence.shared_lr)
    yield Plot(
        "cost-quality",
        "Cost against quality",
        "Each point is a method at its best learning rate: further left is cheaper, further up is better. Filled "
        "points are those that no other method beats in both. Lines are 95 % intervals over seeds. A triangle missed "
        "the target with a seed, so its cost is a lower bound.",
        [point for (method, group), found in chosen.items() if (point := _point(evidence, method, group, found))],
        ("group",),
    )
    yield Plot(
        "curves",
        "Learning curves",
        "Each line is the mean quality over seeds at a method's best learning rate. The band is the range over seeds.",
        [row for (method, group), found in chosen.items() for row in _curve(method, group, found)],
        ("group",),
    )
    served = [record for record in evidence.records if record.workload == DEPLOYMENT]
    yield Plot(
        "serving-latency",
        "Latency of a request",
        "Each line is a way to serve: the median latency against the number of tasks. The thin line ends at 95 %.",
        [row for record in served for row in _latencies(record)],
        ("group",),
    )
    yield Plot(
        "serving-memory",
        "Memory of serving",
        "Each line is a way to serve: the memory that it holds against the number of tasks.",
        [row for record in served if (row := _held(record))],
        ("group",),
    )


def _point(evidence: Evidence, method: str, group: str, found: Sequence[Training]) -> dict[str, Any] | None:
    costs = [one for one in (evidence.cost(training, "time_s") for training in found) if one is not None]
    if not costs:
        return None
    seconds = interval([Observation(one.value) for one in costs])
    quality = interval([Observation(one.quality) for one in found])
    reached = not any(one.censored for one in costs)
    more = "" if reached else "at least "
    shown = f"{more}{significant(seconds.value)} s, quality {quality.value:.3f}, {len(found)} seeds"
    return {
        "group": group,
        "method": method,
        "reached": reached,
        "shown": shown,
        **_ends("seconds", seconds, 0.0, math.inf),
        **_ends("quality", quality, 0.0, HIGHEST),
    }


def _ends(name: str, found: Interval, least: float, most: float) -> dict[str, float]:
    """Return a mean and the ends of its interval within what is possible. An unknown end is the mean."""
    low, high = (end if math.isfinite(end) else found.value for end in (found.low, found.high))
    return {name: found.value, f"{name}_low": max(low, least), f"{name}_high": min(high, most)}


def _curve(method: str, group: str, found: Sequence[Training]) -> Iterator[dict[str, Any]]:
    """Yield the points at which every seed was evaluated: a seed that stopped early would shift the mean."""
    by_step = [{point.step: point for point in one.curve} for one in found]
    for step in sorted(set.intersection(*(set(points) for points in by_step))):
        points = [one[step] for one in by_step]
        scores = [point.quality for point in points]
        yield {
            "group": group,
            "series": f"{method}, lr {found[0].lr:g}",
            "seconds": fmean(point.time_s for point in points),
            "quality": fmean(scores),
            "low": min(scores),
            "high": max(scores),
            "shown": f"{fmean(scores):.3f} [{min(scores):.3f}, {max(scores):.3f}] of {len(found)} seeds, step {step}",
        }


def _latencies(record: Record) -> Iterator[dict[str, Any]]:
    for mix, words in MIXES.items():
        middle, most = value(record, f"{mix}_p50_s"), value(record, f"{mix}_p95_s")
        if middle is not None and most is not None and record.variant.get("n") is not None:
            yield {
                "group": f"{record.group}, {words}",
                "series": series_of(record),
                "tasks": record.variant["n"],
                "ms": 1e3 * middle,
                "p95": 1e3 * most,
                "shown": f"median {milliseconds(middle)} ms, 95 % {milliseconds(most)} ms",
            }


def _held(record: Record) -> Mapping[str, Any] | None:
    size = value(record, "resident_bytes")
    if size is None or record.variant.get("n") is None:
        return None
    place = {"group": record.group, "series": series_of(record), "tasks": record.variant["n"]}
    return {**place, "mb": size / 1e6, "shown": f"{megabytes(size)} MB"}
