"""The cases of runs as rows: of the table, and of the charts of time, memory, phases and rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from peftbench.claims.evidence import value
from peftbench.pages.plots import Plot
from peftbench.pages.sources import NamedFile
from peftbench.records.record import Record, Run
from peftbench.report import terminal
from peftbench.report.numbers import megabytes, milliseconds
from peftbench.report.x_full import full_of, x_full

Pair = tuple[Record, Record | None]
"""A record, and that of full fine-tuning in its block."""

KEYS: Final = ("run", "workload", "task", "batch")
"""What the page selects cases by, besides their methods."""
QUANTILES: Final = ("q0", "q5", "q25", "q50", "q75", "q95", "q100")
"""Names of `Record.quantiles_s`."""
PHASES: Final = ("forward", "backward", "optimizer")
"""Parts of a round, in the order in which they run. Other parts follow by name."""
NO_PHASES: Final = frozenset({"time_s", "reference_s", "device_s", "first_s", "compile_s"})
"""Timed metrics that are no part of a round."""
PARTS: Final = (
    ("weights", "weights_bytes"),
    ("optimizer state", "optimizer_bytes"),
    ("added by a round", "peak_live_bytes"),
)
"""Parts of `peak_bytes`, of which it is the sum."""


@dataclass(frozen=True, slots=True)
class CaseRow:
    """A case with the record of full fine-tuning beside which it stands."""

    run: str
    """Name of the run's file."""
    record: Record
    full: Record | None

    @property
    def keys(self) -> dict[str, str]:
        """What the case is selected by: the values of `KEYS`, and its method and id."""
        record = self.record
        return {
            "run": self.run,
            "workload": terminal.named(record),
            "task": f"{record.task}, {record.seq_len} tokens",
            "batch": str(record.batch_size),
            "method": record.method,
            "id": record.id,
        }


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of the table of cases."""

    title: str
    number: Callable[[Pair], float | None] | None
    """The number that rows are sorted by; None if they are sorted by the text."""
    text: Callable[[Pair], str]


def case_rows(runs: Sequence[NamedFile[Run]]) -> list[CaseRow]:
    """Return the cases of all runs but those of studies, block by block as the terminal shows them."""
    return [
        CaseRow(run.name, record, full_of(members))
        for run in runs
        for _, members in terminal.blocks(record for record in run.content.records if not record.variant)
        for record in members
    ]


def _metric(name: str) -> Callable[[Pair], float | None]:
    return lambda pair: value(pair[0], name)


def _quotient(name: str) -> Callable[[Pair], float | None]:
    return lambda pair: x_full(*pair, name)


NUMBERS: Final[Mapping[str, Callable[[Pair], float | None]]] = {
    "ms [95 %]": _metric("time_s"),
    "x base": _metric("ratio"),
    "x full": _quotient("ratio"),
    "token/s": _metric("tokens_per_s"),
    "peak MB": _metric("peak_bytes"),
    "MB x full": _quotient("peak_bytes"),
    "body+head": _metric("trainable_body"),
    "checkpoint MB": _metric("checkpoint_bytes"),
    "compile s": _metric("compile_s"),
}
"""Title of a column of the terminal's table -> the number that its rows are sorted by."""


def columns(rows: Sequence[CaseRow]) -> list[TableColumn]:
    """Return the columns of the terminal's table that are not empty, but those that the page has in another place."""
    pairs = [(row.record, row.full) for row in rows]
    return [
        TableColumn(column.title, NUMBERS.get(column.title), column.cell)
        for column in terminal.COLUMNS
        if (column.title in NUMBERS or column.title == "status") and any(map(column.cell, pairs))
    ]


def plots(rows: Sequence[CaseRow], *, detailed: int) -> Iterator[Plot]:
    """Yield the charts of cases that have numbers; those that have several rows for a case hold `detailed` cases."""
    found = [row for row in rows if row.record.status == "ok"]
    first = found[:detailed]
    yield Plot(
        "time-memory",
        "Time and memory",
        "Each point is a method: further left is faster, further down needs less memory. Filled points are those that "
        "no other method beats in both. Lines are 95 % intervals, or ranges of fewer than six rounds.",
        [point for row in found if (point := _point(row))],
        KEYS,
    )
    yield Plot(
        "phases",
        "Parts of a round",
        "Each bar is the median time of a round's parts, in milliseconds. The chosen case is drawn in full colour.",
        [part for row in first for part in _phases(row)],
        KEYS,
    )
    yield Plot(
        "rounds",
        "Times of the rounds",
        "The bar holds the middle half of the rounds, the thick line 90 % of them, the thin line all, the mark their "
        "median. The chosen case is drawn in full colour.",
        [box for row in first if (box := _box(row))],
        KEYS,
    )
    yield Plot(
        "memory",
        "Memory at the peak",
        "Each bar is what a round needs at its peak. A round adds gradients, activations and temporary tensors. The "
        "chosen case is drawn in full colour.",
        [part for row in first for part in _memory(row)],
        KEYS,
    )


def _point(row: CaseRow) -> dict[str, Any] | None:
    time, peak = row.record.metrics.get("time_s"), value(row.record, "peak_bytes")
    if time is None or time.value is None or peak is None:
        return None
    low, high = (time.value if end is None else end for end in (time.low, time.high))
    shown = f"{milliseconds(time.value)} ms [{milliseconds(low)}, {milliseconds(high)}], {megabytes(peak)} MB"
    times = {"ms": 1e3 * time.value, "ms_low": 1e3 * low, "ms_high": 1e3 * high}
    return {**row.keys, **times, "mb": peak / 1e6, "reached": True, "shown": shown}


def _phases(row: CaseRow) -> Iterator[dict[str, Any]]:
    metrics = row.record.metrics
    timed = [
        name.removesuffix("_s")
        for name, metric in metrics.items()
        if name.endswith("_s") and name not in NO_PHASES and metric.unit == "s" and metric.noise == "timed"
    ]
    ordered = sorted(timed, key=lambda name: PHASES.index(name) if name in PHASES else len(PHASES))
    for order, name in enumerate(ordered):
        time_s = metrics[f"{name}_s"].value
        if time_s is not None and math.isfinite(time_s):
            shown = f"{milliseconds(time_s)} ms"
            yield {**row.keys, "part": name, "order": order, "ms": 1e3 * time_s, "shown": shown}


def _box(row: CaseRow) -> dict[str, Any] | None:
    found = row.record.quantiles_s
    if len(found) != len(QUANTILES):
        return None
    shown = ", ".join(f"{name[1:]} %: {milliseconds(one)}" for name, one in zip(QUANTILES, found, strict=True))
    return {**row.keys, **dict(zip(QUANTILES, (1e3 * one for one in found), strict=True)), "shown": f"{shown} ms"}


def _memory(row: CaseRow) -> Iterator[dict[str, Any]]:
    parts = [(part, value(row.record, name)) for part, name in PARTS]
    if None in (size for _, size in parts) or value(row.record, "peak_bytes") != sum(size or 0 for _, size in parts):
        return
    for order, (part, size) in enumerate(parts):
        shown = f"{megabytes(size or 0)} MB"
        yield {**row.keys, "part": part, "order": order, "mb": (size or 0) / 1e6, "shown": shown}
