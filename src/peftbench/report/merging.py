"""The table of the study `merging`: what is stored, and what is left of the quality, averaged over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from peftbench.claims.evidence import value
from peftbench.claims.intervals import Interval, Observation, interval
from peftbench.report.numbers import between, megabytes, milliseconds
from peftbench.report.table import Column
from peftbench.studies.training.results import MERGING

if TYPE_CHECKING:
    from peftbench.records.record import Record

RATIOS = (0.0, math.inf)


@dataclass(frozen=True, slots=True)
class MergedWay:
    """One way to keep several tasks, over all seeds."""

    group: str
    method: str
    way: str
    records: tuple[Record, ...]
    """One for each seed, at least one."""

    @property
    def left(self) -> Interval | None:
        """Mean over tasks of quality / quality of the own adapter, over seeds; None if it is not known."""
        return self._over_seeds("quality_ratio")

    @property
    def worst(self) -> Interval | None:
        """The same of the task that loses most."""
        return self._over_seeds("worst_quality_ratio")

    @property
    def bytes_ratio(self) -> float | None:
        """Stored bytes over those of one own adapter a task."""
        return value(self.records[0], "bytes_ratio")

    @property
    def stored_bytes(self) -> float | None:
        """Bytes of all that is stored beside the backbone."""
        return value(self.records[0], "stored_bytes")

    @property
    def merge_s(self) -> float | None:
        """Median seconds of the merge; None if nothing is merged."""
        known = self._known("merge_s")
        return median(known) if known else None

    @property
    def quality(self) -> float | None:
        """Mean quality over tasks and seeds."""
        known = self._known("quality")
        return fmean(known) if known else None

    def _over_seeds(self, name: str) -> Interval | None:
        known = self._known(name)
        return interval([Observation(number) for number in known], RATIOS) if known else None

    def _known(self, name: str) -> list[float]:
        return [number for record in self.records if (number := value(record, name)) is not None]


def merged_ways(records: Iterable[Record]) -> list[MergedWay]:
    """Return the ways to keep several tasks, in the order of their first records."""
    found: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if record.workload == MERGING:
            key = (record.group, record.method, str(record.variant.get("by", "?")))
            found.setdefault(key, []).append(record)
    return [MergedWay(*key, tuple(members)) for key, members in found.items()]


def columns(ways: Sequence[MergedWay]) -> list[Column]:
    """Return the columns of the table of one group."""
    return [
        Column.of("method", [one.method for one in ways], text=True),
        Column.of("way", [one.way for one in ways], text=True),
        Column.of("seeds", [str(len(one.records)) for one in ways], rank=2),
        Column.of("quality x own", [_between(one.left) for one in ways]),
        Column.of("worst task", [_between(one.worst) for one in ways]),
        Column.of("bytes x own", ["" if one.bytes_ratio is None else f"{one.bytes_ratio:.2f}" for one in ways]),
        Column.of("MB", ["" if one.stored_bytes is None else megabytes(one.stored_bytes) for one in ways], rank=1),
        Column.of("merge ms", ["" if one.merge_s is None else milliseconds(one.merge_s) for one in ways]),
        Column.of("quality", ["" if one.quality is None else f"{one.quality:.3f}" for one in ways], rank=3),
    ]


def _between(found: Interval | None) -> str:
    return "" if found is None else between(found)
