"""Under which conditions a case was measured: whether its GPU waited for the host, and whether others were there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from peftbench.records.record import Record

HOST_BOUND_BELOW: Final = 0.8
"""A GPU that is busy for less than this share of a round waits for the host. The round is host-bound."""
HOST_BOUND: Final = "host-bound"
"""Word for such a case in tables and reports."""
SHARED_GPU: Final = "shared GPU"
"""How the warnings of a case begin beside which others used its GPU. Warnings of all launches are kept."""
SHARED_CPU: Final = "shared CPU"
"""The same of a case that waited for a core of the CPU."""


def busy_share(record: Record) -> float | None:
    """Return the share of a round in which the GPU was busy; None if it is not known."""
    metric = record.metrics.get("busy_share")
    return metric.value if metric else None


def is_host_bound(record: Record) -> bool:
    """Tell whether the host sets the time of a case; False if it is not known."""
    share = busy_share(record)
    return share is not None and share < HOST_BOUND_BELOW


def is_shared(warnings: Iterable[str]) -> bool:
    """Tell whether the warnings of a record say that others used its GPU or its core."""
    return bool(shared(warnings))


def shared(warnings: Iterable[str]) -> dict[str, list[str]]:
    """Return what warnings say about others, by what they shared: `shared GPU` -> who they were."""
    found: dict[str, list[str]] = {}
    for warning in warnings:
        what, _, who = warning.partition(": ")
        if what in (SHARED_GPU, SHARED_CPU):
            found.setdefault(what, []).append(who)
    return found
