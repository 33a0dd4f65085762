"""The tables of the study `deployment`: ways to serve, and servers under offered loads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from peftbench.claims.evidence import value
from peftbench.report.numbers import megabytes, milliseconds, significant
from peftbench.report.table import Column
from peftbench.studies.deployment.open_loop import is_starved

if TYPE_CHECKING:
    from peftbench.records.record import LoadPoint, Record

Cells = Sequence[tuple[str, str, Callable[[float], str], int]]
"""Title, metric, formatting function and rank of each column."""
ANSWERS: Final[Cells] = (
    ("p50 ms", "uniform_p50_s", milliseconds, 0),
    ("p95", "uniform_p95_s", milliseconds, 0),
    ("p99", "uniform_p99_s", milliseconds, 0),
    ("req/s", "uniform_requests_per_s", significant, 0),
    ("starves at", "starvation_per_s", significant, 0),
    ("skewed p50 ms", "skewed_p50_s", milliseconds, 1),
    ("p95", "skewed_p95_s", milliseconds, 2),
    ("p99", "skewed_p99_s", milliseconds, 2),
    ("req/s", "skewed_requests_per_s", significant, 1),
)
UPKEEP: Final[Cells] = (
    ("resident MB", "resident_bytes", megabytes, 0),
    ("MB a task", "bytes_per_task", megabytes, 0),
    ("stored MB", "stored_bytes", megabytes, 1),
    ("load ms", "load_s", milliseconds, 0),
    ("+ms a task", "load_slope_s", milliseconds, 1),
    ("switch ms", "switch_s", milliseconds, 0),
    ("+ms a task", "switch_slope_s", milliseconds, 1),
)


def tables(records: Sequence[Record]) -> Iterator[tuple[str, list[Column], int]]:
    """Yield the title, the columns and the number of rows of each table of a group."""
    for what, metrics in (("answers, one lot after the other", ANSWERS), ("held, loaded, switched", UPKEEP)):
        yield what, [*_ways(records), *_metrics(records, metrics)], len(records)
    points = [(record, point) for record in records for point in record.loads or ()]
    if points:
        loads = [point for _, point in points]
        yield (
            "offered loads (!: less than 90 % answered)",
            [*_ways([record for record, _ in points]), *_loads(loads)],
            len(loads),
        )


def _ways(records: Sequence[Record]) -> list[Column]:
    return [
        Column.of("method", [record.method for record in records], text=True),
        Column.of("way", [str(record.variant["by"]) for record in records]),
        Column.of("tasks", [str(record.variant["n"]) for record in records]),
    ]


def _metrics(records: Sequence[Record], metrics: Cells) -> list[Column]:
    return [
        Column.of(title, [_or_nothing(value(record, name), show) for record in records], rank)
        for title, name, show, rank in metrics
    ]


def _loads(points: Sequence[LoadPoint]) -> list[Column]:
    return [
        Column.of("offered/s", [significant(one.offered_per_s) for one in points]),
        Column.of("answered/s", [_answered(one) for one in points]),
        Column.of("p50 ms", [at_least(one.p50_s, one.longest_s) for one in points]),
        Column.of("p95", [at_least(one.p95_s, one.longest_s) for one in points]),
        Column.of("p99", [at_least(one.p99_s, one.longest_s) for one in points], rank=1),
        Column.of("left", [f"{one.unfinished} of {one.requests}" for one in points], rank=2),
        Column.of("a lot", [f"{one.lot_size:.1f}" for one in points], rank=3),
    ]


def _answered(point: LoadPoint) -> str:
    return significant(point.achieved_per_s) + ("!" if is_starved(point) else "")


def at_least(found_s: float | None, longest_s: float | None) -> str:
    """Return a quantile of latencies in milliseconds; one that is not known is above the longest of all that are."""
    if found_s is not None:
        return milliseconds(found_s)
    return f"> {milliseconds(longest_s)}" if longest_s is not None else ""


def _or_nothing(number: float | None, show: Callable[[float], str]) -> str:
    return "" if number is None else show(number)
