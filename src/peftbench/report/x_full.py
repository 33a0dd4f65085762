"""`x full`: a cost over that of full fine-tuning in the same block of the table.

The costs are ratios to the reference (`x base`), taken round by round, so that drift of the machine cancels twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from peftbench.records.record import Record

FULL: Final = "full"
"""The method to which the others are compared."""


def full_of(records: Iterable[Record]) -> Record | None:
    """Return the record of full fine-tuning among those of a block, if it has numbers."""
    return next((record for record in records if record.method == FULL and record.status == "ok"), None)


def x_full(record: Record, full: Record | None, name: str) -> float | None:
    """Return a metric of a record over the same metric of full fine-tuning; None where one of them is not known."""
    ours = record.metrics.get(name)
    theirs = full.metrics.get(name) if full else None
    if ours is None or theirs is None or ours.value is None or not theirs.value:
        return None
    return ours.value / theirs.value
