"""A comparison for the terminal: the verdict as one sentence, followed by a table of what changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from peftbench.gate.verdict import CaseVerdict, Comparison, Verdict
from peftbench.report import wording
from peftbench.report.cause import interval, milliseconds_moved
from peftbench.report.page import page, written
from peftbench.report.table import Column, drawn
from peftbench.text import on_terminal

if TYPE_CHECKING:
    from rich.table import Table

WIDE: Final = 110
"""Width from which the table has a column of reasons. On narrower terminals the reasons follow the table."""

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
        comparison: The comparison.
        fail_on: Verdicts that fail.
        width: Columns of the terminal.
        everything: Whether unchanged cases are listed, too.
        color: Whether to use escape codes.
    """
    console = page(width=width, color=color)
    console.print(on_terminal(wording.headline(comparison, fail_on)), style="bold")
    console.print(f"{wording.counts(comparison)}; {wording.sensitivity(comparison)}")
    for line in (*map(wording.suite_line, comparison.suite), *comparison.notes):
        console.print(on_terminal(line))
    rows = [case for case in wording.loudest_first(comparison) if everything or case.verdict != "unchanged"]
    if rows:
        console.print(_table(rows, comparison, reasons=width >= WIDE))
    for case in rows if width < WIDE else ():
        reason = wording.explanation(case, comparison)
        console.print(on_terminal(f"{case.id}: {reason}") if reason else "", end="\n" if reason else "")
    return written(console)


def _table(rows: Iterable[CaseVerdict], comparison: Comparison, *, reasons: bool) -> Table:
    columns = [
        Column("case", lambda case: case.id, text=True, folds=True, ratio=3),
        Column("verdict", _verdict, text=True, folds=True),
        Column(f"against reference [{wording.level(comparison.rule.confidence)}]", _interval, text=True, folds=True),
        Column("ms", milliseconds_moved, text=True, folds=True),
    ]
    if reasons:
        columns.append(
            Column("why", lambda case: wording.explanation(case, comparison), text=True, folds=True, ratio=4)
        )
    return drawn(columns, rows, lined=False, bold=True, style=lambda case: STYLES.get(case.verdict, ""))


def _verdict(case: CaseVerdict) -> str:
    return case.verdict.upper() if case.verdict in ("regressed", "inconclusive") else case.verdict


def _interval(case: CaseVerdict) -> str:
    return interval(case.time) if case.time is not None else ""
