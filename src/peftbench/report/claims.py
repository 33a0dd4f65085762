"""What runs say about claims: a table for the terminal, markdown, JSON."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from typing import Any, Final

from peftbench.claims.intervals import Interval
from peftbench.claims.paper import CaseFinding, Finding
from peftbench.report.numbers import between

SCHEMA: Final = "peftbench/claims/1"
"""Name and version of the JSON form."""
STYLES: Final = {"holds": "green", "does not hold": "bold red", "not shown": "yellow"}
RATES: Final = {"shared": "one learning rate for all", "tuned": "each method's best", None: ""}


def render(findings: Sequence[Finding], *, width: int, everything: bool = False, color: bool = False) -> str:
    """Return the table, no line longer than `width`; with `everything`, each case on a line of its own."""
    from rich.console import Console
    from rich.table import Table

    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=color, no_color=not color, highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, ratio in (("claim", 2), ("measured, and what would hold", 4), ("found [95 %]", 3), ("verdict", None)):
        table.add_column(heading, overflow="fold", ratio=ratio)
    table.add_column("cases", overflow="fold")
    for finding in findings:
        style = STYLES[finding.verdict]
        table.add_row(
            title(finding), finding.claim.inequality, found(finding.found), finding.verdict, tally(finding), style=style
        )
    console.print(table)
    for finding in filter(lambda finding: everything and finding.cases, findings):
        console.print(f"\n{title(finding)}", style="bold")
        for case in finding.cases:
            console.print(f"  {case.case}: {found(case.found)}, {case.verdict}{censoring(case)}")
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def markdown(findings: Sequence[Finding]) -> str:
    """Return the table, and below it which cases speak for and against each claim."""
    lines = [
        "| claim | measured, and what would hold | found [95 %] | verdict |",
        "| --- | --- | --- | --- |",
        *(
            f"| {title(one)} | {_escaped(one.claim.inequality)} | {found(one.found)} | {one.verdict} |"
            for one in findings
        ),
        "",
    ]
    for one in filter(lambda finding: finding.cases, findings):
        lines += [f"* **{title(one)}** ({one.claim.says})"]
        lines += [f"    * {case.case}: {found(case.found)}, {case.verdict}{censoring(case)}" for case in one.cases]
    return "\n".join(lines) + "\n"


def to_json(findings: Sequence[Finding], *, target: str) -> str:
    """Return everything for other programs; an end of an interval that is infinite is null."""
    data = {"schema": SCHEMA, "target": target, "claims": [_finding(finding) for finding in findings]}
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def title(finding: Finding) -> str:
    """Return the claim's name, with the choice of learning rates where that matters."""
    return finding.claim.name + (f", {RATES[finding.policy]}" if finding.policy else "")


def found(interval: Interval | None) -> str:
    """Return what was measured."""
    return "no data" if interval is None else between(interval)


def tally(finding: Finding) -> str:
    """Return how many cases speak for the claim, against it, and for neither."""
    words = {"for": "holds", "against": "does not hold", "open": "not shown"}
    counts = {word: len(finding.speaking(verdict)) for word, verdict in words.items()}  # type: ignore[arg-type] # verdicts
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def censoring(case: CaseFinding) -> str:
    """Return how many observations never reached the target, if any."""
    if not case.censored:
        return ""
    return f" ({case.censored} of {case.observations} never reached the target: known from one side only)"


def _finding(finding: Finding) -> dict[str, Any]:
    claim = finding.claim
    return {
        "claim": claim.name,
        "says": claim.says,
        "inequality": claim.inequality,
        "bound": claim.bound,
        "learning_rates": finding.policy,
        "verdict": finding.verdict,
        **_interval(finding.found),
        "cases": [
            {
                "case": case.case,
                "verdict": case.verdict,
                **_interval(case.found),
                "observations": case.observations,
                "censored": case.censored,
            }
            for case in finding.cases
        ],
    }


def _interval(interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return {"value": None, "low": None, "high": None}
    ends = {"value": interval.value, "low": interval.low, "high": interval.high}
    return {name: end if math.isfinite(end) else None for name, end in ends.items()}


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")
