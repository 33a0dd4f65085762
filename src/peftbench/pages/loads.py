"""Serving under offered loads as rows: latency against the rate at which requests arrive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from peftbench.pages.plots import Plot
from peftbench.records.record import Record
from peftbench.report.numbers import significant
from peftbench.report.serving import at_least
from peftbench.studies.deployment.open_loop import is_starved


def plot(records: Sequence[Record]) -> Plot:
    """Return the chart of servers under offered loads."""
    return Plot(
        "serving-load",
        "Latency against offered load",
        "Each line is a way to serve: the median latency against the requests that arrive in a second, whether or not "
        "earlier ones are answered. The thin line ends at 95 %. Of the load of a triangle less than 90 % was "
        "answered. The filled one is the starvation point, the lowest of them. Latencies above it grow with the time.",
        [row for record in records for row in _rows(record)],
        ("group",),
    )


def series_of(record: Record) -> str:
    """Return method and way to serve, of which a chart has a line."""
    return f"{record.method} by {record.variant.get('by', '?')}"


def _rows(record: Record) -> Iterator[dict[str, Any]]:
    starved = False
    for point in record.loads or ():
        middle_s = point.p50_s if point.p50_s is not None else point.longest_s
        if middle_s is None:
            continue
        state = "keeps up" if not is_starved(point) else "starved" if starved else "starvation point"
        starved = starved or is_starved(point)
        upper_s = next((one for one in (point.p95_s, point.longest_s) if one is not None), middle_s)
        answered = f"{significant(point.achieved_per_s)} of {significant(point.offered_per_s)} requests/s answered"
        yield {
            "group": f"{record.group}, {record.variant.get('n', '?')} tasks",
            "series": series_of(record),
            "offered": point.offered_per_s,
            "ms": 1e3 * middle_s,
            "p95": 1e3 * upper_s,
            "state": state,
            "shown": f"{answered}, median {at_least(point.p50_s, point.longest_s)} ms, "
            f"95 % {at_least(point.p95_s, point.longest_s)} ms",
        }
