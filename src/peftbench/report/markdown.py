"""A comparison as GitHub markdown: the verdict, the counts, what changed, and the full table, folded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from peftbench.gate.verdict import CaseVerdict, Comparison, Verdict
from peftbench.report import wording
from peftbench.report.cause import interval, milliseconds_moved
from peftbench.report.numbers import counted
from peftbench.text import in_markdown

MAX_BYTES: Final = 1_000_000
"""GitHub refuses a step summary above 1 MiB."""

_MARKS: Final = {"regressed": ":red_circle:", "inconclusive": ":yellow_circle:", "improved": ":green_circle:"}
_HEAD: Final = "| case | verdict | against reference [{}] | ms | why |\n| --- | --- | --- | --- | --- |\n"


def render(comparison: Comparison, *, fail_on: Iterable[Verdict], max_bytes: int = MAX_BYTES) -> str:
    """Return the report, shorter than `max_bytes`. Rows that do not fit are counted."""
    lines = [
        f"**{in_markdown(wording.headline(comparison, fail_on))}**",
        "",
        f"{wording.counts(comparison)}; {wording.sensitivity(comparison)}.",
        "",
        *(f"* {in_markdown(line)}" for line in (*map(wording.suite_line, comparison.suite), *comparison.notes)),
        "",
    ]
    head = "\n".join(lines)
    changed = [case for case in wording.loudest_first(comparison) if case.verdict != "unchanged"]
    room = max_bytes - len(head.encode()) - 500  # for the text between and below the rows
    table = _table(changed, comparison, room)
    room -= len(table.encode())
    return head + table + _folded(comparison, room)


def _table(cases: Sequence[CaseVerdict], comparison: Comparison, room: int) -> str:
    if not cases:
        return ""
    head = _head(comparison)
    rows = list(_fitting((_row(case, comparison) for case in cases), room - len(head)))
    return "\n" + head + "".join(rows) + _rest(len(cases) - len(rows))


def _folded(comparison: Comparison, room: int) -> str:
    count, head = len(comparison.cases), _head(comparison)
    rows = list(_fitting((_row(case, comparison) for case in comparison.cases), room - len(head)))
    if not rows:
        return _rest(count)
    title = f"<summary>All {counted(count, 'case')}</summary>"
    return f"\n<details>{title}\n\n{head}{''.join(rows)}{_rest(count - len(rows))}\n</details>\n"


def _head(comparison: Comparison) -> str:
    return _HEAD.format(wording.level(comparison.rule.confidence))


def _rest(count: int) -> str:
    return f"\n{counted(count, 'case')} more: see the file of the comparison.\n" if count else ""


def _fitting(rows: Iterable[str], room: int) -> Iterator[str]:
    for row in rows:
        room -= len(row.encode())
        if room < 0:
            return
        yield row


def _row(case: CaseVerdict, comparison: Comparison) -> str:
    cells = (
        case.id,
        case.verdict,
        interval(case.time) if case.time is not None else "",
        milliseconds_moved(case),
        wording.explanation(case, comparison),
    )
    name, verdict, *others = map(in_markdown, cells)
    marked = f"{_MARKS.get(case.verdict, '')} {verdict}".strip()  # a mark is markdown of ours, and is not escaped
    return f"| {' | '.join([name, marked, *others])} |\n"
