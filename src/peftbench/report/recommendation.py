"""A ranking of methods, for the terminal and for other programs."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from peftbench.claims.intervals import Interval
from peftbench.claims.recommend import Choice
from peftbench.report.numbers import between, significant


def render(ranked: Sequence[Choice], *, width: int) -> str:
    """Return the ranking as a table, no line longer than `width`."""
    from rich.console import Console
    from rich.table import Table

    if not ranked:
        return "no method can be ranked: the runs lack what this objective needs, or full fine-tuning\n"
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False, markup=False)
    table = Table(box=None, pad_edge=False)
    for column in ("", "method", "score [95 %]", "trains in", "why"):
        table.add_column(column, overflow="fold")
    for place, choice in enumerate(ranked, start=1):
        memory = "" if choice.memory_bytes is None else f"{significant(choice.memory_bytes / 2**30)} GiB"
        table.add_row(str(place) if choice.fits else "-", choice.method, _score(choice), memory, choice.reason)
    console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def to_json(ranked: Sequence[Choice]) -> list[dict[str, Any]]:
    """Return JSON types; an end of an interval that is not known is null."""
    return [
        {
            "method": choice.method,
            "score": choice.score,
            "low": choice.low if math.isfinite(choice.low) else None,
            "high": choice.high if math.isfinite(choice.high) else None,
            "memory_bytes": choice.memory_bytes,
            "fits": choice.fits,
            "reached": choice.reached,
            "reason": choice.reason,
        }
        for choice in ranked
    ]


def _score(choice: Choice) -> str:
    return between(Interval(choice.score, choice.low, choice.high))
