"""Reports on claims: a table for the terminal, markdown, JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from peftbench.claims.findings import CaseFinding, Finding
from peftbench.claims.intervals import Interval
from peftbench.records.conditions import HOST_BOUND
from peftbench.report.numbers import between
from peftbench.report.page import page, written
from peftbench.report.table import Column, drawn
from peftbench.text import as_json, in_markdown, on_terminal

SCHEMA: Final = "peftbench/claims/1"
"""Name and version of the JSON form."""
STYLES: Final = {"holds": "green", "does not hold": "bold red", "not shown": "yellow"}
RATES: Final = {"shared": "one learning rate for all", "tuned": "each method's best", None: ""}


def render(findings: Sequence[Finding], *, width: int, everything: bool = False, color: bool = False) -> str:
    """Return the table, no line longer than `width`. With `everything`, a line for each case follows."""
    console = page(width=width, color=color)
    console.print(drawn(COLUMNS, findings, lined=False, bold=True, style=lambda finding: STYLES[finding.verdict]))
    for finding in findings:
        if told := of_the_host(finding):
            console.print(f"{title(finding)}: {told}")
    for finding in filter(lambda finding: everything and finding.cases, findings):
        console.print(f"\n{title(finding)}", style="bold")
        for case in finding.cases:
            console.print(f"  {on_terminal(case.case)}: {found(case.found)}, {case.verdict}{censoring(case)}")
    return written(console)


def markdown(findings: Sequence[Finding]) -> str:
    """Return the table, and below it the finding of each case, as markdown."""
    lines = [
        "| claim | measured, and what would hold | found [95 %] | verdict |",
        "| --- | --- | --- | --- |",
        *(
            f"| {title(one)} | {in_markdown(one.claim.inequality)} | {found(one.found)} | {one.verdict} |"
            for one in findings
        ),
        "",
    ]
    lines += [f"* **{title(one)}**: {in_markdown(told)}" for one in findings if (told := of_the_host(one))]
    for one in filter(lambda finding: finding.cases, findings):
        lines += [f"* **{title(one)}** ({one.claim.says})"]
        lines += [
            f"    * {in_markdown(case.case)}: {found(case.found)}, {case.verdict}{censoring(case)}"
            for case in one.cases
        ]
    return "\n".join(lines) + "\n"


def to_json(findings: Sequence[Finding], *, target: str) -> str:
    """Return all findings as JSON. An infinite end of an interval is null."""
    data = {"schema": SCHEMA, "target": target, "claims": [_finding(finding) for finding in findings]}
    return as_json(data)


def title(finding: Finding) -> str:
    """Return the claim's name, with the choice of learning rates if the claim depends on it."""
    return finding.claim.name + (f", {RATES[finding.policy]}" if finding.policy else "")


def found(interval: Interval | None) -> str:
    """Return a measured value with its interval, or `no data`."""
    return "no data" if interval is None else between(interval)


def of_the_host(finding: Finding) -> str:
    """Return a sentence about host-bound cases, with the verdict for the device's time; '' if there are none."""
    if not finding.host_bound:
        return ""
    told = (
        f"{len(finding.host_bound)} of {len(finding.cases)} cases are {HOST_BOUND}, so this verdict is about Python "
        "and kernel launches; for the time in which the device is busy: "
    )
    device = finding.device
    return told + (f"{found(device.found)}, {device.verdict}" if device else "not known")


def tally(finding: Finding) -> str:
    """Return the numbers of cases for the claim, against it, and for neither."""
    words = {"for": "holds", "against": "does not hold", "open": "not shown"}
    counts = {word: len(finding.speaking(verdict)) for word, verdict in words.items()}  # type: ignore[arg-type] # verdicts
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def censoring(case: CaseFinding) -> str:
    """Return the number of observations that never reached the target, as text; '' if all did."""
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
        "host_bound": list(finding.host_bound),
        "device": finding.device and {"verdict": finding.device.verdict, **_interval(finding.device.found)},
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


COLUMNS: Final = (
    Column("claim", title, text=True, folds=True, ratio=2),
    Column("measured, and what would hold", lambda one: one.claim.inequality, text=True, folds=True, ratio=4),
    Column("found [95 %]", lambda one: found(one.found), text=True, folds=True, ratio=3),
    Column("verdict", lambda one: one.verdict, text=True, folds=True),
    Column("cases", tally, text=True, folds=True),
)
