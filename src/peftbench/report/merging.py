"""The table of the study `merging`: what is stored, and what is left of the quality, averaged over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Final

from peftbench.claims.evidence import value
from peftbench.claims.intervals import Interval, Observation, interval
from peftbench.report.numbers import between, megabytes, milliseconds, significant
from peftbench.report.table import Column
from peftbench.studies.training.results import HEADS, MERGING

if TYPE_CHECKING:
    from peftbench.records.record import Record

RATIOS: Final = (0.0, math.inf)
"""Range of a ratio of scores."""
LITTLE: Final = 0.95
"""Where heads without adapters keep this share of the quality, the adapters are not worth merging."""


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
        Column.of("quality x own", ["" if one.left is None else between(one.left) for one in ways]),
        Column.of("worst", ["" if one.worst is None else significant(one.worst.value) for one in ways]),
        Column.of("bytes x own", ["" if one.bytes_ratio is None else f"{one.bytes_ratio:.2f}" for one in ways]),
        Column.of("MB", ["" if one.stored_bytes is None else megabytes(one.stored_bytes) for one in ways], rank=1),
        Column.of("merge ms", ["" if one.merge_s is None else milliseconds(one.merge_s) for one in ways]),
        Column.of("quality", ["" if one.quality is None else f"{one.quality:.3f}" for one in ways], rank=3),
    ]


def notes(ways: Sequence[MergedWay]) -> list[str]:
    """Return a line for each method whose adapters learned next to nothing: ratios to them say little."""
    lost = [one for one in ways if one.way == HEADS and one.left is not None and one.left.value >= LITTLE]
    return [
        f"{one.method}: heads without adapters keep {one.left.value:.2f} of the quality, so the adapters learned "
        "little, and ratios to them say little"
        for one in lost
        if one.left is not None
    ]
