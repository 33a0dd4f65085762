"""Makes the sheet of a run or a journal, of a baseline, and of a comparison."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from peftbench.gate.format import SCHEMA as BASELINE
from peftbench.gate.meaning import TOTALS
from peftbench.records.jsondata import encode
from peftbench.records.record import SCHEMA as RUN
from peftbench.report import studies
from peftbench.report.answer import Answer
from peftbench.report.diffs import Diff, DiffCase
from peftbench.report.numbers import counted, megabytes, milliseconds, scaled
from peftbench.report.page import page, written
from peftbench.report.sheet import Row, Sheet
from peftbench.report.table import Column
from peftbench.report.wording import level

if TYPE_CHECKING:
    from peftbench.gate.snapshot import CaseSnapshot, Snapshot
    from peftbench.records.record import Record, Run

CHECKPOINT: Final = "checkpoint_bytes"


def _word(name: str) -> Callable[[Row], str]:
    return lambda row: "" if row.get(name) in (None, "ok") else str(row[name])


def _number(name: str, show: Callable[[float], str]) -> Callable[[Row], str]:
    return lambda row: "" if row.get(name) is None else show(row[name])


def _checkpoint(row: Row) -> str:
    """Return the size of a checkpoint. A run has it as a sum and in parts, a baseline as either."""
    names = TOTALS[CHECKPOINT] if row.get(CHECKPOINT) is None else (CHECKPOINT,)
    parts = [row[name] for name in names if row.get(name) is not None]
    return megabytes(sum(parts)) if parts else ""


def _time(row: Row) -> str:
    if row.get("time_s") is None:
        return ""
    text = milliseconds(row["time_s"])
    if row.get("time_s_low") is None or row.get("time_s_high") is None:
        return text
    return f"{text} [{milliseconds(row['time_s_low'])}, {milliseconds(row['time_s_high'])}]"


def change(row: Mapping[str, Any]) -> str:
    """Return the change of a time with its interval: `+6.1 % [+4.2 .. +8.0 %]`."""
    if row.get("change") is None:
        return ""
    value, low, high = (f"{100 * row[name]:+.1f}".replace("-0.0", "+0.0") for name in ("change", "low", "high"))
    return f"{value} % [{low} .. {high} %]"


CASE: Final = Column("case", lambda row: str(row["case"]), text=True, folds=True)
COUNTERS: Final = (
    Column("FLOP", _number("flops", scaled), rank=3),
    Column("saved MB", _number("saved_bytes", megabytes), rank=2),
    Column("peak MB", _number("peak_bytes", megabytes), rank=1),
    Column("checkpoint MB", _checkpoint, rank=4),
    Column("trained", _number("trainable_body", scaled), rank=5),
)
COLUMNS: Final = (
    CASE,
    Column("status", _word("status"), text=True),
    Column("ms [95 %]", _time),
    Column("x reference", _number("ratio", "{:.3f}".format)),
    Column("launches", _number("launches", str), rank=6),
    Column("spread %", _number("spread", lambda value: f"{100 * value:.1f}"), rank=7),
    *COUNTERS,
    Column("why", _word("reason"), text=True, folds=True),
)


def of_run(run: Run) -> Sheet:
    """Return the sheet of a run. A row has a record's metrics by name, and the ends of their intervals."""
    about = {"fingerprint": dict(run.fingerprint), "settings": encode(run.settings)}
    rows = [_of_record(record) for record in run.records]
    people = [
        row
        for record, row in zip(run.records, rows, strict=True)
        if not studies.has_table(record) or record.status != "ok"
    ]
    answer = Answer(run)
    summary = answer.to_json() if answer.compares else None
    return Sheet(RUN, about, rows, COLUMNS, people=people, appendix=partial(_appendix, answer), summary=summary)


def _appendix(answer: Answer, width: int) -> str:
    """Return the tables of the studies in a run, which need more than a row for each record, and the answer."""
    run = answer.run
    console = page(width=width)
    studies.write(run, console, width)
    return written(console) + (f"\n{answer.render(width=width)}" if answer.compares else "")


def _of_record(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {"case": record.id, "status": record.status, "reason": record.reason or None}
    row["variant"] = dict(record.variant)
    if xs := [launch.x for launch in record.launches if launch.x is not None]:
        row |= _launches(xs)
    for name, metric in record.metrics.items():
        row[name] = metric.value
        if metric.low is not None and metric.high is not None:
            row |= {f"{name}_low": metric.low, f"{name}_high": metric.high}
    return {**row, "operators": dict(sorted(record.operators.items())), "modules": dict(sorted(record.modules.items()))}


def _launches(xs: Sequence[float]) -> dict[str, Any]:
    """Return number of launches, mean ratio to the reference, and standard deviation between launches in log units."""
    spread = statistics.stdev(xs) if len(xs) > 1 else None
    return {"launches": len(xs), "ratio": math.exp(statistics.fmean(xs)), "spread": spread}


def of_baseline(baseline: Snapshot) -> Sheet:
    """Return the sheet of a baseline. A row has a case's launches, and its counters by name."""
    about = {
        "fingerprint": dict(baseline.fingerprint),
        "settings": encode(baseline.settings),
        "session": {key: {item.name: f"shift {item.shift:+.2%}"} for key, item in baseline.sessions.items()},
        "accepted": [
            f"{item.date} {item.commit}: {counted(item.cases, 'case')}, {item.why}" for item in baseline.accepted
        ],
    }
    return Sheet(BASELINE, about, [_of_case(name, baseline) for name in sorted(baseline.cases)], COLUMNS)


def _of_case(name: str, baseline: Snapshot) -> dict[str, Any]:
    case: CaseSnapshot = baseline.cases[name]
    xs = baseline.launches(name)
    return {
        "case": name,
        **(_launches(xs) if xs else {}),
        "rounds": case.rounds,
        "time_s": case.time_s,
        "clock_mhz": case.clock_mhz,
        **dict(sorted(case.counters.items())),
        "operators": dict(sorted(case.profile.operators.items())),
        "operator_order": case.profile.operator_hash or None,
        "modules": dict(sorted(case.profile.modules.items())),
    }


def of_diff(diff: Diff) -> Sheet:
    """Return the sheet of a comparison. A row has a case's verdict, change of time, and counters that moved."""
    about = {
        "headline": diff.headline,
        "cases": dict(diff.counts),
        "smallest slowdown that is seen": f"{diff.detectable:.1%}" if diff.detectable is not None else None,
        "note": list(diff.notes),
        "suite": [f"{item.name} {item.verdict} {100 * item.change:+.1f} %" for item in diff.suite],
    }
    since = [f"{one.case}: first worse at {one.at}; not yet at {one.before}" for one in diff.bisect]
    return Sheet(diff.schema, about, [of_change(case) for case in diff.cases], _changes(diff), since)


def _changes(diff: Diff) -> Sequence[Column]:
    return (
        CASE,
        Column("verdict", _word("verdict"), text=True),
        Column(f"change [{level(diff.confidence)}]", change),
        Column("ms", lambda row: times(row.get("base_s"), row.get("new_s"))),
        Column("why", lambda row: str(row["why"]), rank=0, text=True, folds=True),
    )


def of_change(case: DiffCase) -> dict[str, Any]:
    """Return the row of one case of a comparison."""
    time = case.time
    return {
        "case": case.id,
        "verdict": case.verdict,
        "certain": case.verdict in ("regressed", "improved"),
        "change": time and time.change,
        "low": time and time.low,
        "high": time and time.high,
        "p": time and time.p,
        "base_s": case.base_s,
        "new_s": case.new_s,
        "why": why(case),
        "counters": {item.name: [item.before, item.after] for item in case.counters},
        "operators": {item.name: [item.before, item.after] for item in case.operators},
        "modules": {item.name: [item.before, item.after] for item in case.modules},
    }


def why(case: DiffCase) -> str:
    """Return the cause of a verdict, and the counters that moved, in one sentence."""
    moved = [f"{item.name} {_plainly(item.before)} -> {_plainly(item.after)}" for item in case.counters]
    parts = [case.cause, case.reason, "" if case.cause else ", ".join(moved)]
    return "; ".join(dict.fromkeys(filter(None, parts)))


def times(before: float | None, after: float | None) -> str:
    """Return two times in milliseconds, given in seconds: `12.4 -> 13.1`; '' if one is not known."""
    return "" if before is None or after is None else f"{milliseconds(before)} -> {milliseconds(after)}"


def _plainly(value: float) -> str:
    return f"{value:,.15g}" if value < 100_000 else scaled(value)  # noqa: PLR2004 - counts below are written in full
