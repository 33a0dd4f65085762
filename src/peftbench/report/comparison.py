"""A comparison in the terminal: what changed as a table, after the verdict in one sentence."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from peftbench.gate.verdict import CaseVerdict, Comparison, Verdict
from peftbench.report import wording

if TYPE_CHECKING:
    from rich.table import Table

WIDE: Final = 110
"""Columns from which the reasons stand in the table; below, they follow it."""

STYLES: Final = {
    "regressed": "bold red",
    "inconclusive": "yellow",
    "missing": "yellow",
    "improved": "green",
    "new": "cyan",
}


def render(
    comparison: Comparison, *, fail_on: Iterable[Verdict], width: int, everything: bool = False, color: bool = False
) -> str:
    """Return the report, no line longer than `width`.

    Args:
        comparison: What was found.
        fail_on: The verdicts that fail.
        width: Columns of the terminal.
        everything: List unchanged cases too.
        color: Whether to use escape codes.
    """
    from rich.console import Console

    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=color, no_color=not color, highlight=False, markup=False)
    console.print(wording.headline(comparison, fail_on), style="bold")
    console.print(f"{wording.counts(comparison)}; {wording.sensitivity(comparison)}")
    for line in (*map(wording.suite_line, comparison.suite), *comparison.notes):
        console.print(line)
    rows = [case for case in wording.loudest_first(comparison) if everything or case.verdict != "unchanged"]
    if rows:
        console.print(_table(rows, comparison, reasons=width >= WIDE))
    for case in rows if width < WIDE else ():
        reason = wording.explanation(case, comparison)
        console.print(f"{case.id}: {reason}" if reason else "", end="\n" if reason else "")
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def _table(rows: Iterable[CaseVerdict], comparison: Comparison, *, reasons: bool) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("case", overflow="fold", ratio=3)
    table.add_column("verdict", overflow="fold")
    table.add_column("against reference [95 %]", overflow="fold")
    table.add_column("ms", overflow="fold")
    if reasons:
        table.add_column("why", overflow="fold", ratio=4)
    for case in rows:
        loud = case.verdict in ("regressed", "inconclusive")
        cells = [
            case.id,
            case.verdict.upper() if loud else case.verdict,
            wording.interval(case.time) if case.time is not None else "",
            wording.milliseconds_moved(case),
        ]
        if reasons:
            cells.append(wording.explanation(case, comparison))
        table.add_row(*cells, style=STYLES.get(case.verdict, ""))
    return table
