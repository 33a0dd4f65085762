"""What the page tells of a single case: lists of its numbers, its warnings, and the command that makes it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from peftbench.pages.command import command
from peftbench.pages.sources import NamedFile
from peftbench.records.record import Metric, Record, Run
from peftbench.report.cause import NOUNS
from peftbench.report.numbers import counted, megabytes, milliseconds, percentage, scaled, significant

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
MOST_COUNTS: Final = 12
"""Most operators and modules that are named: those with the largest counts."""
KERNELS: Final = "_kernels_s"
"""How the names of metrics end that hold the time of a family of kernels."""
SHARES: Final = (
    "Share of the time of all operators, clocked once while they were counted: no milliseconds of a timed round. "
    "Counting adds some microseconds to each call, so operators of many short calls look longer than they are."
)
"""What the shares of operators are."""
MOST_WARNINGS: Final = 50
"""Most warnings of a case that are shown. The others are counted."""


@dataclass(frozen=True, slots=True)
class FactList:
    """Facts of one kind."""

    title: str
    facts: Sequence[tuple[str, str]]
    """Name and text of each."""
    note: str = ""
    """What a reader must know of all."""


@dataclass(frozen=True, slots=True)
class Details:
    """Further facts about one case."""

    run: str
    id: str
    status: str
    reason: str
    lists: Sequence[FactList]
    """Those that hold anything."""
    warnings: Sequence[str]
    command: str


def details(runs: Sequence[NamedFile[Run]]) -> list[Details]:
    """Return the details of the first cases of all runs; cases of studies count, too."""
    found = [(run, record) for run in runs for record in run.content.records]
    return [_details(run, record) for run, record in found[:MOST_CASES]]


def _details(run: NamedFile[Run], record: Record) -> Details:
    warned = list(record.warnings[:MOST_WARNINGS])
    if (rest := len(record.warnings) - MOST_WARNINGS) > 0:
        warned.append(f"and {rest} more")
    return Details(
        run=run.name,
        id=record.id,
        status=record.status,
        reason=record.reason,
        lists=[one for one in _lists(record) if one.facts],
        warnings=warned,
        command=command(record, run.content),
    )


def _lists(record: Record) -> Iterator[FactList]:
    """Yield the lists of a case. A metric without value has its reason."""
    yield FactList("Numbers", [(name_of(name), number(metric)) for name, metric in record.metrics.items()])
    yield _families(record)
    yield FactList(
        "Kernels that took longest",
        [(one.name, _time(one.time_s, one.calls, one.family)) for one in record.longest_kernels or ()],
        "On the device, in a round.",
    )
    yield FactList(
        "Operators that took longest",
        [
            (one.name, f"{percentage(one.share)} % in {counted(one.calls, 'call')}")
            for one in record.longest_operators or ()
        ],
        SHARES,
    )
    yield _largest("Operators called most in a round", record.operators, "operator")
    yield _largest("Trained parameters", record.modules, "module")


def _families(record: Record) -> FactList:
    """Return the time of each family of kernels, and its share of all, the longest first."""
    found = {
        name.removesuffix(KERNELS): metric.value
        for name, metric in record.metrics.items()
        if name.endswith(KERNELS) and metric.value and metric.value > 0
    }
    total = sum(found.values())
    ordered = sorted(found.items(), key=lambda item: -item[1])
    facts = [(name, f"{milliseconds(time_s)} ms, {percentage(time_s / total)} %") for name, time_s in ordered]
    return FactList("Time by kind of kernel", facts, "On the device, in a round.")


def _time(time_s: float, calls: int, family: str) -> str:
    return f"{milliseconds(time_s)} ms in {counted(calls, 'call')} ({family})"


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


def _largest(title: str, counts: Mapping[str, int], noun: str) -> FactList:
    """Return the largest counts. The number of the others is the note."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = len(ordered) - MOST_COUNTS
    note = f"and {counted(rest, noun)} more" if rest > 0 else ""
    return FactList(title, [(name, str(count)) for name, count in ordered[:MOST_COUNTS]], note)
