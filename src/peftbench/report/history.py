"""The sheet of a history. People get a row for each case; programs get a row for each case of each step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from peftbench.records.history import SCHEMA, History, Stage, Step
from peftbench.report.diffs import DiffCase, read_diff
from peftbench.report.numbers import counted
from peftbench.report.sheet import Row, Sheet
from peftbench.report.sheets import CASE, change, of_change
from peftbench.report.table import Column

CERTAIN: Final = ("regressed", "improved")
"""Verdicts of a change that is certain."""
UNPAIRED: Final = ("new", "missing", "not comparable")
"""Verdicts of a case that has no numbers on one side."""
MARKS: Final = "SLOWER and FASTER are certain by time, MORE and LESS by counters; no other change is certain"


def of_history(history: History) -> Sheet:
    """Return the sheet of a history."""
    stages = {stage.identity: stage for stage in history.stages}
    steps = [(stages[step.base], stages[step.new], step) for step in _walked(history)]
    rows = [row for base, new, step in steps for row in _rows(base, new, step)]
    about = {
        "states": " -> ".join(stage.name for stage in history.stages),
        "commit": [f"{stage.name} {stage.about}" for stage in history.stages if stage.about],
        "options": " ".join(history.options),
    }
    columns = [CASE, *(_column(new) for _, new, _ in steps)]
    notes = list(_notes(history, rows))
    return Sheet(SCHEMA, about, rows, columns, notes, keys=("case", "base", "new"), people=_wide(rows))


def _walked(history: History) -> list[Step]:
    found = [history.step(base, new) for base, new in history.chain]
    return [step for step in found if step is not None]


def _rows(base: Stage, new: Stage, step: Step) -> Iterator[dict[str, Any]]:
    if step.comparison is None:
        return
    for case in read_diff(step.comparison, f"{base.name} -> {new.name}").cases:
        yield {"base": base.name, "new": new.name, **of_change(case), "kind": kind(case)}


def kind(case: DiffCase) -> str:
    """Return a word for a certain change, else the verdict; '' for unchanged."""
    if case.verdict not in CERTAIN:
        return "" if case.verdict == "unchanged" else case.verdict
    if case.time is not None and case.time.verdict == case.verdict:
        return "SLOWER" if case.verdict == "regressed" else "FASTER"
    if not case.counters:
        return case.verdict
    return "MORE" if case.verdict == "regressed" else "LESS"


def _column(new: Stage) -> Column:
    def cell(row: Row) -> str:
        found = row.get(new.name)
        return f"{change(found)} {found['kind']}".strip() if found else ""

    return Column(new.name, cell, text=True, folds=True)


def _wide(rows: Sequence[Row]) -> list[Row]:
    """Return a row for each case: name of a step's newer state -> row of the case in this step."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        found.setdefault(row["case"], {"case": row["case"]})[row["new"]] = row
    return [found[case] for case in sorted(found)]


def _notes(history: History, rows: Sequence[Row]) -> Iterator[str]:
    """Yield the cause of each certain change, and what is missing in the table."""
    certain = [row for row in rows if row["certain"]]
    if certain:
        yield MARKS
    for row in certain:
        yield f"{row['case']}, {row['base']} -> {row['new']}: {row['verdict']}: {row['why'] or change(row)}"
    reasons = Counter(
        (row["new"], row["verdict"], row["why"]) for row in rows if row["verdict"] in UNPAIRED and row["why"]
    )
    for (new, verdict, why), count in reasons.items():
        yield f"{new}: {counted(count, 'case')} {verdict}: {why}"
    for stage in history.stages:
        if stage.problem:
            yield f"{stage.name} is left out: {stage.problem}"
    for base, new in history.left():
        step = history.step(base, new)
        yield f"{base.name} -> {new.name}: {step.problem if step else 'not compared yet'}"
