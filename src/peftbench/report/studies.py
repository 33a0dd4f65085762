"""The tables of studies at the end of a run: trainings, averaged over seeds, serving and merging."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from peftbench.claims.evidence import Evidence, JointTraining, value
from peftbench.claims.intervals import (
    SCORE_DIFFERENCES,
    SCORES,
    Interval,
    Observation,
    Range,
    interval,
    log_ratio,
    open_ends,
)
from peftbench.config.target import QualityTarget
from peftbench.report import merging, serving
from peftbench.report.numbers import megabytes, scaled, significant
from peftbench.report.table import LINED_GAP, Column, drawn, filled, fitting
from peftbench.studies.training.results import (
    ADDING,
    CONVERGENCE,
    DEPLOYMENT,
    FULL,
    MERGING,
    MULTITASK,
    Training,
    best_lr,
    trainings,
)
from peftbench.studies.training.stopping import Cost, Goal, cost
from peftbench.text import on_terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from peftbench.records.record import Record, Run


def has_table(record: Record) -> bool:
    """Tell whether a record is of a study that has a table of its own."""
    return record.workload in (CONVERGENCE, MULTITASK, ADDING, DEPLOYMENT, MERGING)


def tables(run: Run, width: int) -> Iterator[tuple[str, Table, list[str]]]:
    """Yield title, table and notes of each group of each study in a run. Tables fit in `width` if possible."""
    found = [record for record in run.records if record.status == "ok"]
    evidence = Evidence(found, "tuned", 0.0, QualityTarget.read(str(run.settings.get("target", "97%"))))
    for members in _groups(trainings(found)):
        goal = evidence.goal(members[0].group)
        told = significant(goal) if goal else "not known: full is missing, or scored 0"
        title = f"{CONVERGENCE}  {members[0].group}, target {told}"
        yield title, _of_members(members, goal, width), _notes(members, goal)
    for members in _groups(trainings(found, MULTITASK)):
        joint = {task: evidence.goal(group) for task, group in JointTraining(members[0]).groups.items()}
        known = {task: goal for task, goal in joint.items() if goal is not None}
        goals = known if len(known) == len(joint) else None
        yield (
            f"{MULTITASK}  {members[0].group}",
            _of_members(members, goals, width),
            _notes(members, goals),
        )
    for members in _groups(trainings(found, ADDING)):
        *_, new = JointTraining(members[0]).groups.values()
        goal = evidence.goal(new)
        yield (
            f"{ADDING}  {members[0].group}",
            _of_members(members, goal, width),
            _notes(members, goal),
        )
    served: dict[str, list[Record]] = {}
    for record in found:
        if record.workload == DEPLOYMENT:
            served.setdefault(record.group, []).append(record)
    for group, records in served.items():
        for what, columns, count in serving.tables(records):
            yield f"{DEPLOYMENT}  {group}: {what}", _table(columns, count, width), []
    ways = merging.merged_ways(found)
    for group in dict.fromkeys(one.group for one in ways):
        mine = [one for one in ways if one.group == group]
        yield f"{MERGING}  {group}", _table(merging.columns(mine), len(mine), width), merging.notes(mine)


def write(run: Run, console: Console, width: int) -> None:
    """Write the tables of all studies in a run onto a page, each below a blank line."""
    for title, table, notes in tables(run, width):
        console.print()
        console.print(on_terminal(title), style="bold")
        console.print(table)
        for note in notes:
            console.print(f"  {on_terminal(note)}")


def _of_members(members: Sequence[Training], goal: Goal | None, width: int) -> Table:
    return _table(_of_trainings(members, goal), len(_rows(members)), width)


def _of_trainings(members: Sequence[Training], goal: Goal | None) -> list[Column]:
    """Return the columns of a table with a row for each method and learning rate.

    Cells hold means over the seeds with 95 % intervals.
    """
    rows = _rows(members)
    full = _best_of_full(members)
    memory = [max(value(one.record, "peak_bytes") or 0.0 for one in found) for found in rows.values()]

    def costs(what: str, show: Callable[[float], str]) -> list[str]:
        return [_mean_cost([_cost(one, goal, what) for one in found], show) for found in rows.values()]

    def against(what: str) -> list[str]:
        return [_against(found, full, goal, what) for found in rows.values()]

    return [
        Column.of("method", [method for method, *_ in rows], text=True),
        Column.of("lr", [f"{lr:g}" for _, lr, _ in rows]),
        Column.of("replay", ["" if replay is None else f"{replay:.0%}" for *_, replay in rows]),
        Column.of("seeds", [str(len(found)) for found in rows.values()], rank=2),
        Column.of("quality", [_mean([one.quality for one in found], SCORES) for found in rows.values()]),
        Column.of("forgets", [_forgets(found) for found in rows.values()]),
        Column.of("s to target", costs("time_s", significant), rank=1),
        Column.of("x full", against("time_s")),
        Column.of("FLOP to target", costs("flops", scaled), rank=4),
        Column.of("FLOP x full", against("flops"), rank=1),
        Column.of("J to target", costs("energy_j", significant), rank=3),
        Column.of("peak MB", [megabytes(size) if size else "" for size in memory], rank=2),
    ]


def _notes(members: Sequence[Training], goal: Goal | None) -> list[str]:
    """Return notes on the best learning rate if several were tried, and on trainings that never reached the target."""
    notes = []
    for method in dict.fromkeys(one.method for one in members):
        mine = [one for one in members if one.method == method]
        if len({one.lr for one in mine}) > 1:
            notes.append(f"{method}: best learning rate with the first seed: {best_lr(mine):g}")
    for (method, lr, _), found in _rows(members).items():
        costs = [_cost(one, goal, "time_s") for one in found]
        if lost := sum(one is not None and one.censored for one in costs):
            notes.append(f"{method} at {lr:g}: target not reached in {lost} of {len(found)} (cost: at least so much)")
    return notes


def _best_of_full(members: Sequence[Training]) -> dict[int, Training]:
    """Return full fine-tuning at its best learning rate, by seed."""
    mine = [one for one in members if one.method == FULL]
    lr = best_lr(mine) if mine else None
    return {one.seed: one for one in mine if one.lr == lr}


def _rows(members: Iterable[Training]) -> dict[tuple[str, float, float | None], list[Training]]:
    rows: dict[tuple[str, float, float | None], list[Training]] = {}
    for one in members:
        rows.setdefault((one.method, one.lr, one.record.variant.get("replay")), []).append(one)
    return rows


def _groups(found: Iterable[Training]) -> list[list[Training]]:
    groups: dict[str, list[Training]] = {}
    for one in found:
        groups.setdefault(one.group, []).append(one)
    return list(groups.values())


def _cost(one: Training, goal: Goal | None, what: str) -> Cost | None:
    return None if goal is None else cost(one.curve, goal, what)


def _against(found: Sequence[Training], full: Mapping[int, Training], goal: Goal | None, what: str) -> str:
    """Return the ratio of cost to quality to that of full fine-tuning at its best learning rate, paired by seed."""
    ratios = [log_ratio(_cost(one, goal, what), _cost(full[one.seed], goal, what)) for one in found if one.seed in full]
    known = [ratio for ratio in ratios if ratio is not None]
    if not known:
        return ""
    return _between(interval(known), lambda log: f"{math.exp(log):.2f}", known)


def _mean(values: Iterable[float | None], within: Range) -> str:
    """Return the mean of scores, or of their differences, with an interval inside the range of such numbers."""
    known = [Observation(number) for number in values if number is not None]
    return _between(interval(known, within), "{:.3f}".format, known) if known else ""


def _forgets(found: Iterable[Training]) -> str:
    return _mean([value(one.record, "forgetting") for one in found], SCORE_DIFFERENCES)


def _mean_cost(costs: Iterable[Cost | None], show: Callable[[float], str]) -> str:
    known = [Observation(one.value, censored="above" if one.censored else "") for one in costs if one is not None]
    return _between(interval(known), show, known) if known else ""


def _between(found: Interval, show: Callable[[float], str], known: Sequence[Observation]) -> str:
    """Return a value with its interval: `1.2 [1.1, 1.3]`.

    Censored observations give `> 1.2` or `< 1.2` for a bound, and `? 1.2` if neither side is bounded.
    """
    above, below = open_ends(known)
    if above or below:
        return f"{'?' if above and below else '>' if above else '<'} {show(found.value)}"
    if math.isinf(found.low) or math.isinf(found.high) or show(found.low) == show(found.high):
        return show(found.value)
    return f"{show(found.value)} [{show(found.low)}, {show(found.high)}]"


def _table(columns: Sequence[Column], count: int, width: int) -> Table:
    """Return a table of `count` rows, without empty columns and columns that do not fit."""
    rows = range(count)
    return drawn(fitting(filled(columns, rows), [rows], width, LINED_GAP), rows)
