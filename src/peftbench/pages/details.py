"""What the page tells of a single case: its numbers, operators, warnings, and the command that makes it again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from peftbench.pages.command import command
from peftbench.pages.sources import NamedFile
from peftbench.records.record import Metric, Record, Run
from peftbench.report.cause import NOUNS
from peftbench.report.numbers import megabytes, milliseconds, scaled, significant

NAMES: Final = {
    "time_s": "time of a round",
    "first_s": "first, cold round",
    "reference_s": "time of the base step",
    "ratio": "x base",
    "tokens_per_s": "tokens a second",
    **NOUNS,
}
"""Metric -> name. Other metrics are called by their keys, without the unit and with blanks."""
MOST_CASES: Final = 1000
"""Most cases of a page that have details. Of further cases the page has the row of the table."""
OPERATORS: Final = 12
"""Number of operators that are named: those that are called most often."""
MOST_WARNINGS: Final = 50
"""Most warnings of a case that are shown. The others are counted."""


@dataclass(frozen=True, slots=True)
class Details:
    """Further facts about one case."""

    run: str
    id: str
    status: str
    reason: str
    numbers: Sequence[tuple[str, str]]
    """Name and text of each metric. A metric without value has its reason."""
    operators: Sequence[tuple[str, int]]
    """Name and number of calls in a round, the most frequent first."""
    other_operators: int
    """Number of operators that are not named."""
    modules: Sequence[tuple[str, int]]
    """Trained parameters by module, the largest first."""
    warnings: Sequence[str]
    command: str


def details(runs: Sequence[NamedFile[Run]], most: int = MOST_CASES) -> list[Details]:
    """Return the details of the first cases of all runs; cases of studies count, too."""
    found = [(run, record) for run in runs for record in run.content.records]
    return [_details(run, record) for run, record in found[:most]]


def _details(run: NamedFile[Run], record: Record) -> Details:
    warned = list(record.warnings[:MOST_WARNINGS])
    if (rest := len(record.warnings) - MOST_WARNINGS) > 0:
        warned.append(f"and {rest} more")
    return Details(
        run=run.name,
        id=record.id,
        status=record.status,
        reason=record.reason,
        numbers=[(name_of(name), number(metric)) for name, metric in record.metrics.items()],
        operators=_largest(record.operators, OPERATORS),
        other_operators=max(len(record.operators) - OPERATORS, 0),
        modules=_largest(record.modules, OPERATORS),
        warnings=warned,
        command=command(record, run.content),
    )


def name_of(metric: str) -> str:
    """Return the name of a metric for people."""
    return NAMES.get(metric, metric.removesuffix("_s").replace("_", " "))


def number(metric: Metric) -> str:
    """Return a metric with its unit and interval, or the reason why it has no value."""
    if metric.value is None:
        return f"not known: {metric.reason}" if metric.reason else "not known"
    ends = [end for end in (metric.low, metric.high) if end is not None]
    show, unit = milliseconds if metric.unit == "s" else megabytes if metric.unit == "B" else scaled, metric.unit
    name = {"s": " ms", "B": " MB", "1": ""}.get(unit, f" {unit}")
    if unit == "1" and metric.noise == "timed":
        show = significant
    return show(metric.value) + (f" [{', '.join(map(show, ends))}]" if len(ends) > 1 else "") + name


def _largest(counts: Mapping[str, int], most: int) -> list[tuple[str, int]]:
    ordered: Iterable[tuple[str, int]] = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return list(ordered)[:most]
