"""How far launches of the same code lie apart: a table of what tools/gate_study.py measured, for wall and busy time."""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

T = TypeVar("T")

QUANTITIES: Final = {"x": "x base", "time_s": "wall time", "busy_s": "busy time"}
"""Logarithms that are compared between launches -> their names."""
LEAST: Final = 2
"""Launches without which there is no spread."""


def within(items: Iterable[T], seconds: float | None, now: Callable[[], float] = time.monotonic) -> Iterator[T]:
    """Yield items as long as one that takes as long as the longest so far still ends in time.

    Args:
        items: What is to be done. The work on an item is done before the next one is asked for.
        seconds: Time that is left; None: there is no end.
        now: The clock.
    """
    start, longest = now(), 0.0
    for item in items:
        begun = now()
        if seconds is not None and begun - start + longest > seconds:
            return
        yield item
        longest = max(longest, now() - begun)


def logarithms(run: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return quantity -> case -> logarithm, of a run file with one launch."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for record in run["records"]:
        for launch in record["launches"][:1]:
            if launch.get("x") is not None:
                found["x"][record["id"]] = launch["x"]
        for name in ("time_s", "busy_s"):
            value = record["metrics"].get(name, {}).get("value")
            if value:
                found[name][record["id"]] = math.log(value)
    return dict(found)


def table(launches: Sequence[Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Return the rows: the standard deviation between launches of each quantity, median and largest over the cases.

    The last column is the smallest slowdown that three launches show against twenty, at 5 % error and 90 % power:
    (1.645 + 1.282) standard errors.
    """
    rows = ["| quantity | cases | launches | spread: median case | largest | smallest slowdown |", "| --- " * 6 + "|"]
    for quantity, name in QUANTITIES.items():
        cases = sorted(set.intersection(*(set(one.get(quantity, {})) for one in launches))) if launches else []
        if len(launches) < LEAST or not cases:
            continue
        spreads = [statistics.stdev(one[quantity][case] for one in launches) for case in cases]
        typical = statistics.median(spreads)
        least = (1.645 + 1.282) * typical * math.sqrt(1 / 3 + 1 / 20)
        rows.append(
            f"| {name} | {len(cases)} | {len(launches)} | {typical:.2%} | {max(spreads):.2%} "
            f"| {math.expm1(least):.1%} |"
        )
    return rows
