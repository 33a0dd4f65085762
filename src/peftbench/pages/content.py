"""What a page shows: its parts, reduced from the files. Pure, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from peftbench.claims.evidence import Evidence, distinct, require_poolable, shared_lr, target_of
from peftbench.claims.findings import Finding
from peftbench.claims.paper import judge
from peftbench.config.target import QualityTarget
from peftbench.errors import UserError
from peftbench.pages import choose, details, guard, learning, loads, merging, overview, timeline
from peftbench.pages.choose import CaseRow
from peftbench.pages.details import Details
from peftbench.pages.guard import ComparisonPart
from peftbench.pages.overview import AnswerTable, Headline
from peftbench.pages.plots import Plot
from peftbench.pages.sources import NamedFile, Sources
from peftbench.pages.trends import machine_of
from peftbench.records.record import Run, differences
from peftbench.report import terminal
from peftbench.report.numbers import counted

MOST_ROWS: Final = 20_000
"""Most cases in the table of a page."""


@dataclass(frozen=True, slots=True)
class RunPart:
    """A run, as text."""

    name: str
    head: Sequence[str]
    """Machine and noise, model, versions and the meaning of ratios: the lines above the terminal's table."""
    settings: Mapping[str, str]
    fingerprint: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PageContent:
    """What a page shows. Parts without data are empty."""

    title: str
    runs: Sequence[RunPart]
    headlines: Sequence[Headline]
    answers: Sequence[AnswerTable]
    notices: Sequence[str]
    """What a reader must know before anything else: several machines, failed cases, what is left out."""
    rows: Sequence[CaseRow]
    details: Sequence[Details]
    comparisons: Sequence[ComparisonPart]
    acceptances: Mapping[str, Sequence[str]]
    """Baseline -> its acceptances, the latest first."""
    histories: Mapping[str, Sequence[str]]
    """History -> its sentences."""
    findings: Sequence[Finding]
    plots: Mapping[str, Plot]
    """Plots that have data, by name."""


def content_of(sources: Sources, *, title: str = "", target: str | None = None) -> PageContent:
    """Return what a page shows of some files.

    Args:
        sources: The files.
        title: Title of the page; if it is empty, models and devices are the title.
        target: The quality to which costs are compared; None: that of the runs.

    Raises:
        UserError: `target` cannot be read.
    """
    runs = sources.runs
    rows = choose.case_rows(runs)
    aim = target_of(target, [run.content for run in runs])
    apart = _why_apart(runs)
    findings, unjudged = _judged(runs, aim, apart)
    evidence = Evidence(
        distinct(record for run in runs for record in run.content.records) if not apart else (),
        "tuned",
        shared_lr([run.content for run in runs]),
        aim,
    )
    drawn = [
        overview.plot(runs),
        *learning.plots(evidence),
        loads.plot(evidence.records),
        merging.plot(evidence.records),
        *choose.plots(rows[:MOST_ROWS], detailed=details.MOST_CASES),
        *timeline.plots(runs, details.MOST_CASES),
        *guard.plots(sources),
    ]
    comparisons = [guard.comparison(one) for one in sources.comparisons]
    return PageContent(
        title=title or _title(runs),
        runs=[_run(run) for run in runs],
        headlines=overview.headlines(runs, comparisons),
        answers=list(overview.tables(runs)),
        notices=[*_notices(runs, rows), *unjudged],
        rows=rows[:MOST_ROWS],
        details=details.details(runs),
        comparisons=comparisons,
        acceptances={one.name: guard.acceptances(one) for one in sources.baselines},
        histories={one.name: guard.notes(one) for one in sources.histories},
        findings=findings,
        plots={plot.name: plot for plot in drawn if plot.rows},
    )


def _title(runs: Sequence[NamedFile[Run]]) -> str:
    """Return the models that were measured, and the devices on which they were."""
    named = (_named(run.content) for run in runs)
    return "peftbench" + "".join(f": {words}" for words in ["; ".join(dict.fromkeys(named))] if words)


def _named(run: Run) -> str:
    return f"{run.settings.get('model', 'a model')} on {machine_of(run.settings, run.fingerprint)}"


def _run(named: NamedFile[Run]) -> RunPart:
    run = named.content
    return RunPart(
        name=named.name,
        head=terminal.head(run),
        settings={name: _shown(value) for name, value in run.settings.items() if value not in (None, "", [])},
        fingerprint=dict(run.fingerprint),
    )


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _why_apart(runs: Sequence[NamedFile[Run]]) -> str:
    """Return why claims and trainings of the runs cannot be judged together; '' if they can."""
    try:
        require_poolable({run.name: run.content for run in runs})
    except UserError as error:
        return str(error)
    return ""


def _judged(runs: Sequence[NamedFile[Run]], target: QualityTarget, apart: str) -> tuple[list[Finding], list[str]]:
    if apart:
        return [], [f"Claims, trainings and serving are not shown, since the runs are of different kinds: {apart}."]
    try:
        found = judge([run.content for run in runs], target)
    except UserError as error:
        return [], [f"Claims are not judged: {error}."]
    return [finding for finding in found if finding.cases], []


def _notices(runs: Sequence[NamedFile[Run]], rows: Sequence[CaseRow]) -> Iterator[str]:
    total = sum(len(run.content.records) for run in runs)
    if runs and not total:
        yield "The runs hold no case: nothing was measured."
    failed = sum(record.status != "ok" for run in runs for record in run.content.records)
    if total and failed == total:
        yield "No case has numbers. The table names the reasons."
    elif failed:
        yield f"{counted(failed, 'case')} of {total} without numbers: the table names the reasons."
    for other in runs[1:]:
        if found := differences(runs[0].content.fingerprint, other.content.fingerprint):
            yield (
                f"{other.name} was not measured as {runs[0].name} was ({', '.join(found)} differ): compare x full, "
                "which is relative to full fine-tuning of the same run, and no milliseconds."
            )
    methods = {row.record.method for row in rows}
    if len(methods) == 1:
        yield f"One method was measured ({methods.pop()}): there is nothing to compare it with."
    if total > details.MOST_CASES:
        yield (
            f"Details are left out of {total - details.MOST_CASES} of {total} cases: parts of a round, quantiles, "
            "memory parts, timelines, operators and warnings are those of the first cases. `peftbench show` has all "
            "numbers."
        )
    if len(rows) > MOST_ROWS:
        yield f"{len(rows) - MOST_ROWS} cases are left out of the table: it holds the first {MOST_ROWS}."
