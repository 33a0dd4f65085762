"""Merging as rows: the bytes that are stored against the quality that is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peftbench.pages.plots import Plot
from peftbench.records.record import Record
from peftbench.report.merging import MergedWay, merged_ways
from peftbench.report.numbers import between, megabytes


def plot(records: Sequence[Record]) -> Plot:
    """Return the chart of merged adapters."""
    return Plot(
        "merging",
        "Bytes against quality",
        "Each point is a way to keep several tasks: further left stores less, further up keeps more of the quality of "
        "one adapter a task, which is 1 in both. The thin line ends at the task that loses most. Filled points "
        "are those that no other beats in both. Heads are the trained heads on the plain backbone, without adapters.",
        [row for one in merged_ways(records) if (row := _row(one))],
        ("group",),
    )


def _row(one: MergedWay) -> dict[str, Any] | None:
    left, worst, share, size = one.left, one.worst, one.bytes_ratio, one.stored_bytes
    if left is None or worst is None or share is None or size is None:
        return None
    return {
        "group": one.group,
        "method": f"{one.method} {one.way}",
        "share": share,
        "share_low": share,
        "share_high": share,
        "left": left.value,
        "left_low": worst.value,
        "left_high": left.value,
        "reached": True,
        "shown": f"quality x {between(left)}, worst task x {between(worst)}, {megabytes(size)} MB, bytes x {share:.2f}",
    }
