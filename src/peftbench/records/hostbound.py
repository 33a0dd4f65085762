"""Whether a record's time is that of the host: Python and kernel launches, with a GPU that waits for them."""

from __future__ import annotations

from typing import Final

from peftbench.records.record import Record

HOST_BOUND_BELOW: Final = 0.8
"""A GPU that is busy for less than this share of a round waits for the host. The round is host-bound."""
HOST_BOUND: Final = "host-bound"
"""Word for such a case in tables and reports."""


def busy_share(record: Record) -> float | None:
    """Return the share of a round in which the GPU was busy; None if it is not known."""
    metric = record.metrics.get("busy_share")
    return metric.value if metric else None


def is_host_bound(record: Record) -> bool:
    """Tell whether the host sets the time of a case; False if it is not known."""
    share = busy_share(record)
    return share is not None and share < HOST_BOUND_BELOW
