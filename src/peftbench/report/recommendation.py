"""A ranking of methods, for the terminal and for other programs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from peftbench.claims.intervals import Interval
from peftbench.claims.recommend import NEEDS, Choice, Objective
from peftbench.report.numbers import between, significant
from peftbench.report.page import page, written
from peftbench.report.table import Column, drawn
from peftbench.text import as_json


def render(ranked: Sequence[Choice], *, width: int) -> str:
    """Return the ranking of at least one method as a table, no line longer than `width`."""
    console = page(width=width)
    columns = [
        Column("", lambda row: str(row[0]) if row[1].fits else "-", text=True, folds=True),
        Column("method", lambda row: row[1].method, text=True, folds=True),
        Column("score [95 %]", lambda row: score(row[1]), text=True, folds=True),
        Column("trains in", lambda row: _memory(row[1]), text=True, folds=True),
        Column("why", lambda row: row[1].reason, text=True, folds=True),
    ]
    console.print(drawn(columns, enumerate(ranked, start=1), lined=False))
    return written(console)


def nothing_ranked(objective: Objective, others: Sequence[Objective]) -> str:
    """Return a line that says what the runs lack for an objective, and for which other objectives they have enough."""
    more = f"; they have what --objective={' or '.join(others)} needs" if others else ""
    return f"no method can be ranked by {objective}: the runs must hold {NEEDS[objective]}{more}\n"


def to_json(ranked: Sequence[Choice]) -> str:
    """Return the ranking as JSON. An unknown end of an interval is null."""
    data = [
        {
            "method": choice.method,
            "score": choice.score,
            "low": choice.low if math.isfinite(choice.low) else None,
            "high": choice.high if math.isfinite(choice.high) else None,
            "memory_bytes": choice.memory_bytes,
            "fits": choice.fits,
            "reached": choice.reached,
            "bound": choice.bound,
            "reason": choice.reason,
        }
        for choice in ranked
    ]
    return as_json(data)


def _memory(choice: Choice) -> str:
    return "" if choice.memory_bytes is None else f"{significant(choice.memory_bytes / 2**30)} GiB"


def score(choice: Choice) -> str:
    """Return a score with its interval. A bound has its sign: `> 0.99`. A score that is not known is ''."""
    if choice.score is None:
        return ""
    if choice.bound:
        return f"{'>' if choice.bound == 'above' else '<'} {significant(choice.score)}"
    return between(Interval(choice.score, choice.low, choice.high))
