"""The runs of one machine in the order of their commits, and how each method's costs moved from run to run. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

from peftbench.claims.standing import Quantity, Summary, summarized
from peftbench.pages.sources import NamedFile
from peftbench.records.record import Run, differences
from peftbench.report.numbers import between, megabytes, scaled

LIMIT: Final = 0.05
"""Change of a time that is marked, if the intervals of both runs lie apart as well."""
SIZES: Final[Mapping[str, tuple[str, Callable[[float], str], float]]] = {
    "peak_bytes": ("peak MB of a training step", megabytes, 1e6),
    "flops": ("FLOPs of a training step", scaled, 1.0),
    "checkpoint_bytes": ("checkpoint in MB", megabytes, 1e6),
}
"""Exact metric of a training step -> title, the function that shows it, and the unit in which it is drawn."""


@dataclass(frozen=True)
class MeasuredRun:
    """A run in a history."""

    file: NamedFile[Run]

    @property
    def run(self) -> Run:
        """Records, settings and fingerprint."""
        return self.file.content

    @property
    def label(self) -> str:
        """The commit or release that was measured; the file's name if it is not known."""
        return str(self.run.notes.get("commit") or self.file.name)

    @property
    def date(self) -> str:
        """The day on which it was measured; '' if it is not known."""
        sessions = (launch.session for record in self.run.records for launch in record.launches)
        return str(self.run.notes.get("measured") or max(sessions, default=""))[:10]

    @property
    def order(self) -> tuple[float, float, str]:
        """The time of the commit, or else of the measurement: what runs are sorted by."""
        notes = self.run.notes
        measured = _instant(notes.get("measured") or self.date)
        return _instant(notes.get("committed")) or measured, measured, self.file.name

    @property
    def machine(self) -> str:
        """The processor or GPU."""
        return machine_of(self.run.settings, self.run.fingerprint)

    @cached_property
    def kind(self) -> str:
        """What must be equal for runs to be one history: machine, settings, and the benchmarks, tasks and sizes."""
        places = {(one.workload, one.function, one.group, one.seq_len) for one in self.run.records if not one.variant}
        return json.dumps([self.machine, dict(self.run.settings), sorted(places)], sort_keys=True, default=str)


@dataclass(frozen=True, slots=True)
class TrendCell:
    """A method's cost in one run."""

    mean: float
    shown: str
    change: str
    """Word for the change against the run before: `slower`, `faster`, `more`, `less`; '' if nothing is marked."""


@dataclass(frozen=True, slots=True)
class Trend:
    """One cost over the runs of a history."""

    title: str
    rows: Mapping[str, Sequence[TrendCell | None]]
    """Method -> cell of each run, the oldest first."""
    unit: float = 1.0
    """What means are divided by to be drawn."""

    @property
    def latest(self) -> list[str]:
        """What is marked in the latest run, a line for each method: `lora is slower (1.10 -> 1.51)`."""
        marked = []
        for method, cells in self.rows.items():
            *before, now = cells
            if now is not None and now.change:
                old = next(cell.shown for cell in reversed(before) if cell is not None)
                marked.append(f"{self.title}: {method} {now.change} ({old} -> {now.shown})")
        return marked


@dataclass(frozen=True, slots=True)
class RunHistory:
    """Runs that can be compared, the oldest first."""

    runs: Sequence[MeasuredRun]
    trends: Sequence[Trend]
    changed: Sequence[str]
    """What is marked in the latest run, a line for each cost and method."""
    moved: Sequence[str]
    """What differs between neighbouring runs besides the commit: versions of packages, and so on."""


def machine_of(settings: Mapping[str, Any], fingerprint: Mapping[str, str]) -> str:
    """Return the name of the processor or GPU that was measured."""
    return str(fingerprint.get("device" if settings.get("device") == "cuda" else "cpu", "unknown machine"))


def histories(files: Iterable[NamedFile[Run]]) -> list[RunHistory]:
    """Return the runs by machine and kind; the history with the latest run comes first."""
    found: dict[str, list[MeasuredRun]] = {}
    for one in sorted(map(MeasuredRun, files), key=lambda one: one.order):
        found.setdefault(one.kind, []).append(one)
    parts = sorted(found.values(), key=lambda runs: runs[-1].order, reverse=True)
    return [_history(runs) for runs in parts]


def _history(runs: Sequence[MeasuredRun]) -> RunHistory:
    trends = list(_trends(runs))
    return RunHistory(runs, trends, [line for trend in trends for line in trend.latest], list(_moved(runs)))


def _instant(text: object) -> float:
    """Return an ISO 8601 time in seconds; 0 if it is none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def _trends(runs: Sequence[MeasuredRun]) -> Iterator[Trend]:
    """Yield the costs that any run has. Times are against the base step of the same run, not against full fine-tuning.

    A change of full fine-tuning would otherwise be a change of every method.
    """
    records = [record for one in runs for record in one.run.records if not record.variant]
    for workload, function in dict.fromkeys((one.workload, one.function) for one in records):
        timed = Quantity(workload, workload, "ratio", function, relative=False)
        yield from _trend(runs, f"time of {function}, x base", timed)
    for metric, (title, show, unit) in SIZES.items():
        sized = Quantity(metric, "train_step", metric, "train_step", relative=False)
        yield from _trend(runs, title, sized, show, unit)


def _trend(
    runs: Sequence[MeasuredRun],
    title: str,
    quantity: Quantity,
    show: Callable[[float], str] | None = None,
    unit: float = 1.0,
) -> Iterator[Trend]:
    found = [summarized(quantity, one.run.records) for one in runs]
    methods = dict.fromkeys(method for mine in found for method in mine)
    if methods:
        yield Trend(title, {method: _row([mine.get(method) for mine in found], show) for method in methods}, unit)


def _row(found: Sequence[Summary | None], show: Callable[[float], str] | None) -> list[TrendCell | None]:
    before: Summary | None = None
    row: list[TrendCell | None] = []
    for one in found:
        if one is None:
            row.append(None)
            continue
        change = _change(before, one, exact=show is not None)
        row.append(TrendCell(one.mean.value, show(one.mean.value) if show else between(one.mean), change))
        before = one
    return row


def _change(before: Summary | None, now: Summary, *, exact: bool) -> str:
    """Return the word for a change that is marked. Means over different numbers of groups are not compared."""
    if before is None or before.blocks != now.blocks:
        return ""
    old, new = before.mean, now.mean
    if exact:
        same = abs(new.value - old.value) <= 1e-9 * abs(old.value)  # a mean of exact numbers is rounded
        return "" if same else "more" if new.value > old.value else "less"
    if new.low > old.high and new.value > old.value * (1 + LIMIT):
        return "slower"
    return "faster" if new.high < old.low and new.value < old.value / (1 + LIMIT) else ""


def _moved(runs: Sequence[MeasuredRun]) -> Iterator[str]:
    for old, new in pairwise(runs):
        found = differences(old.run.fingerprint, new.run.fingerprint)
        if found:
            parts = ", ".join(f"{name} {before} -> {after}" for name, (before, after) in found.items())
            yield f"{old.label} -> {new.label}: {parts}"
