"""What a GPU read while a case's energy was measured, as rows: memory and power over time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from peftbench.pages.plots import OF_CASE, Plot
from peftbench.pages.sources import NamedFile
from peftbench.records.record import Record, Run

MOST_POINTS: Final = 60_000
"""Most points of all timelines of a page. Above it, every second, third, ... reading of each is drawn."""
TIMES: Final = "t_s"
"""Series with the times of all others."""
MEMORY: Final = {"device_bytes": "all processes", "process_bytes": "this process"}
"""Series of bytes -> whose they are."""
POWER: Final = {"power_w": "the GPU"}
"""Series of watts -> whose they are."""


def plots(runs: Sequence[NamedFile[Run]], most: int) -> Iterator[Plot]:
    """Yield the charts of memory and power of the first `most` cases of all runs."""
    found = [(run.name, record) for run in runs for record in run.content.records][:most]
    read = [(name, record) for name, record in found if record.timeline]
    points = sum(len(record.timeline or ()) * len((record.timeline or {}).get(TIMES, ())) for _, record in read)
    every = max(1, math.ceil(points / MOST_POINTS))
    kept = f" Reading 1, {every + 1}, {2 * every + 1}, ... is drawn." if every > 1 else ""
    about = "over the seconds in which its steps ran once more and energy was measured"
    yield Plot(
        "timeline-memory",
        "Memory of the GPU over time",
        f"Used memory {about}. Its peak is among the numbers below.{kept}",
        [{**row, "mb": size / 1e6} for name, record in read for row, size in _series(name, record, MEMORY, every)],
        OF_CASE,
    )
    yield Plot(
        "timeline-power",
        "Power of the GPU over time",
        f"Watts {about}. Newer GPUs report the mean of a second. Peak and mean are among the numbers below.{kept}",
        [{**row, "watts": watts} for name, record in read for row, watts in _series(name, record, POWER, every)],
        OF_CASE,
    )


def _series(run: str, record: Record, named: Mapping[str, str], every: int) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield the place and the value of each point. A series may be missing."""
    timeline = record.timeline or {}
    for name, series in named.items():
        points = zip(timeline.get(TIMES, ()), timeline.get(name, ()), strict=False)  # a file may come from elsewhere
        for seconds, value in list(points)[::every]:
            yield {"run": run, "id": record.id, "series": series, "seconds": seconds}, value
