"""Comparisons, histories and baselines as rows: verdicts by importance, and changes over states and sessions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from peftbench.gate.snapshot import Snapshot
from peftbench.gate.verdict import VERDICTS
from peftbench.pages.plots import Plot
from peftbench.pages.sources import NamedFile, Sources
from peftbench.records.history import History
from peftbench.report.cause import NOUNS
from peftbench.report.diffs import Diff, DiffCase, MovedLine
from peftbench.report.history import of_history
from peftbench.report.numbers import counted
from peftbench.report.sheets import change, of_change, times, why
from peftbench.report.wording import level

MOST_VERDICTS: Final = 500
"""Most cases of a comparison that the page lists."""
MOST_DRAWN: Final = 40
"""Most cases of a comparison, history or baseline that are drawn."""


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """A case of a comparison, as text."""

    id: str
    verdict: str
    change: str
    """Change of the time with its interval."""
    times: str
    """Milliseconds of a round before and after."""
    why: str
    moved: Sequence[str]
    """Counters, operators and modules that moved, with both numbers."""


@dataclass(frozen=True, slots=True)
class ComparisonPart:
    """One comparison of the page."""

    name: str
    headline: str
    failed: bool
    counts: str
    sensitivity: str
    level: str
    """How sure the intervals of changes are: `90 %`."""
    lines: Sequence[str]
    """Verdicts of the whole suite, notes, and the states at which cases became worse."""
    rows: Sequence[VerdictRow]
    unchanged: int
    """Cases that are not listed since nothing has changed."""
    left_out: int
    """Cases that are not listed since there are too many."""
    worst: VerdictRow | None
    """The case that regressed most; None if none did."""


def comparison(named: NamedFile[Diff]) -> ComparisonPart:
    """Return a comparison for the page."""
    diff = named.content
    changed = [case for case in most_important_first(diff.cases) if case.verdict != "unchanged"]
    regressed = next((case for case in changed if case.verdict == "regressed"), None)
    lines = [f"{item.name} {item.verdict}: {100 * item.change:+.1f} %" for item in diff.suite]
    lines += [*diff.notes, *(f"{one.case}: first worse at {one.at}; not yet at {one.before}" for one in diff.bisect)]
    seen = diff.detectable
    return ComparisonPart(
        name=named.name,
        headline=diff.headline,
        failed=diff.failed,
        counts=", ".join(f"{count} {verdict}" for verdict, count in diff.counts.items()) or "no cases",
        sensitivity="" if seen is None else f"the smallest slowdown that would be seen is {100 * seen:.1f} %",
        level=level(diff.confidence),
        lines=lines,
        rows=[_row(case) for case in changed[:MOST_VERDICTS]],
        unchanged=len(diff.cases) - len(changed),
        left_out=max(len(changed) - MOST_VERDICTS, 0),
        worst=None if regressed is None else _row(regressed),
    )


def most_important_first(cases: Sequence[DiffCase]) -> list[DiffCase]:
    """Return the cases in the order of VERDICTS; of one verdict, those that changed most in time come first."""

    def importance(case: DiffCase) -> tuple[int, float, str]:
        words: tuple[str, ...] = VERDICTS
        place = words.index(case.verdict) if case.verdict in words else len(words)
        moved = 0.0 if case.time is None else abs(math.log1p(max(case.time.change, -0.999)))
        return place, -moved, case.id

    return sorted(cases, key=importance)


def _row(case: DiffCase) -> VerdictRow:
    return VerdictRow(
        id=case.id,
        verdict=case.verdict,
        change=change(of_change(case)),
        times=times(case.base_s, case.new_s),
        why=why(case),
        moved=[_moved(line) for line in (*case.counters, *case.operators, *case.modules)],
    )


def _moved(line: MovedLine) -> str:
    return f"{NOUNS.get(line.name, line.name)}: {line.before:,.15g} -> {line.after:,.15g}"


def plots(sources: Sources) -> Iterator[Plot]:
    """Yield the charts of changes. Each leaves out cases above `MOST_DRAWN`, the least important ones."""
    rows = [row for one in sources.comparisons for row in _drawn(one)]
    about = "Each line is the interval of a case's change in time; right of the dashed line it became slower. "
    yield Plot("verdicts", "What changed", f"{about}{_most('cases')}", rows, ("file",))
    rows = [row for one in sources.histories for row in _steps(one)]
    about = "Each point is the change of a case's time from the state before, with its interval."
    yield Plot("history", "Changes over states", about, rows, ("file", "case"))
    rows = [row for one in sources.baselines for row in _launches(one)]
    about = "Each point is a launch: the time of the case over that of its base step, in the session that made it."
    yield Plot("sessions", "Sessions of the baseline", about, rows, ("file", "case"))


def _most(what: str) -> str:
    return f"At most {MOST_DRAWN} {what} are drawn."


def _drawn(named: NamedFile[Diff]) -> list[dict[str, object]]:
    cases = most_important_first(named.content.cases)
    judged = [case for case in cases if case.time is not None and case.verdict in VERDICTS[:4]]
    rows: list[dict[str, object]] = []
    for case in judged[:MOST_DRAWN]:
        if case.time is not None:
            ends = {"change": case.time.change, "low": case.time.low, "high": case.time.high}
            percent = {name: 100 * share for name, share in ends.items()}
            shown = change(of_change(case))
            text = {"file": named.name, "case": case.id, "verdict": case.verdict, "shown": shown, "cause": case.cause}
            rows.append({**text, **percent})
    return rows


def _steps(named: NamedFile[History]) -> list[dict[str, object]]:
    found = [row for row in of_history(named.content).rows if row["change"] is not None]
    certain = {row["case"] for row in found if row["certain"]}
    cases = sorted({row["case"] for row in found}, key=lambda case: (case not in certain, case))[:MOST_DRAWN]
    return [
        {
            "file": named.name,
            "case": row["case"],
            "state": row["new"],
            "kind": row["kind"],
            "shown": change(row),
            **{name: 100 * row[name] for name in ("change", "low", "high")},
        }
        for case in cases
        for row in found
        if row["case"] == case
    ]


def _launches(named: NamedFile[Snapshot]) -> list[dict[str, object]]:
    cases = sorted(named.content.cases.items())[:MOST_DRAWN]
    return [
        {
            "file": named.name,
            "case": name,
            "session": named.content.sessions[session].name,
            "ratio": math.exp(x - named.content.sessions[session].shift),
        }
        for name, case in cases
        for session, values in case.x.items()
        for x in values
    ]


def acceptances(named: NamedFile[Snapshot]) -> list[str]:
    """Return a line for each acceptance of a baseline, the latest first."""
    found = [f"{item.date} {item.commit}: {counted(item.cases, 'case')}, {item.why}" for item in named.content.accepted]
    return found[::-1]


def notes(named: NamedFile[History]) -> list[str]:
    """Return the sentences of a history: the cause of each certain change, and what is missing."""
    return list(of_history(named.content).notes)
