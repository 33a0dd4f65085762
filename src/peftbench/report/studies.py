"""The tables of studies at the end of a run: trainings over their seeds, and ways to serve."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from peftbench.claims.evidence import Evidence, value
from peftbench.claims.statistics import Interval, Observation, interval, log_ratio
from peftbench.report.numbers import megabytes, milliseconds, scaled, significant
from peftbench.training.results import ADDING, CONVERGENCE, FULL, MULTITASK, Training, best_lr, trainings
from peftbench.training.stopping import Cost, Target, cost

if TYPE_CHECKING:
    from rich.table import Table

    from peftbench.record import Record, Run

DEPLOYMENT: Final = "deployment"
Cells = Mapping[str, tuple[str, Callable[[float], str]]]
"""Column of a table -> metric, and how it is shown; blanks at the end tell columns of one title apart."""
ANSWERS: Final[Cells] = {
    "uniform p50 ms": ("uniform_p50_s", milliseconds),
    "p95": ("uniform_p95_s", milliseconds),
    "p99": ("uniform_p99_s", milliseconds),
    "req/s": ("uniform_requests_per_s", significant),
    "skewed p50 ms": ("skewed_p50_s", milliseconds),
    "p95 ": ("skewed_p95_s", milliseconds),
    "p99 ": ("skewed_p99_s", milliseconds),
    "req/s ": ("skewed_requests_per_s", significant),
}
UPKEEP: Final[Cells] = {
    "resident MB": ("resident_bytes", megabytes),
    "MB a task": ("bytes_per_task", megabytes),
    "stored MB": ("stored_bytes", megabytes),
    "load ms": ("load_s", milliseconds),
    "+ms a task": ("load_slope_s", milliseconds),
    "switch ms": ("switch_s", milliseconds),
    "+ms a task ": ("switch_slope_s", milliseconds),
}


def tables(run: Run) -> Iterator[tuple[str, Table]]:
    """Yield title and table of each group of each study in a run."""
    found = [record for record in run.records if record.status == "ok"]
    evidence = Evidence(found, "tuned", 0.0, Target.read(str(run.settings.get("target", "97%"))))
    for members in _groups(trainings(found)):
        goal = evidence.goal(members[0].group)
        title = f"{CONVERGENCE}  {members[0].group}, target {_or_nothing(goal, significant)}"
        yield title, _of_trainings(members, goal)
    for workload in (MULTITASK, ADDING):
        for members in _groups(trainings(found, workload)):
            yield f"{workload}  {members[0].group}", _of_trainings(members, None)
    served: dict[str, list[Record]] = {}
    for record in found:
        if record.workload == DEPLOYMENT:
            served.setdefault(record.group, []).append(record)
    for group, records in served.items():
        yield f"{DEPLOYMENT}  {group}: answers, one lot of requests after the other", _of_serving(records, ANSWERS)
        yield f"{DEPLOYMENT}  {group}: what is held, loaded and switched", _of_serving(records, UPKEEP)


def _of_trainings(members: Sequence[Training], goal: float | None) -> Table:
    """Return a row a method and learning rate: the mean over the seeds with its 95 % interval."""
    rows = _rows(members)
    tuned = {method: best_lr([one for one in members if one.method == method]) for method, *_ in rows}
    full = {one.seed: one for one in members if one.method == FULL and one.lr == tuned.get(FULL)}
    table = _table("method", "lr", "seeds", "quality", "to target: s", "x full", "FLOP", "x full ", "J", "peak MB", "")
    for (method, lr, replay), found in rows.items():
        costs = {what: [_cost(one, goal, what) for one in found] for what in ("time_s", "flops", "energy_j")}
        forgotten = [value(one.record, "forgetting") for one in found]
        notes = [
            "best lr" if lr == tuned[method] and len(set(rows)) > len(tuned) else "",
            f"{replay:.0%} replayed" if replay is not None else "",
            f"forgets {_mean(forgotten)}" if any(lost is not None for lost in forgotten) else "",
            _unreached(costs["time_s"]),
        ]
        table.add_row(
            method,
            f"{lr:g}",
            str(len(found)),
            _mean([one.quality for one in found]),
            _mean_cost(costs["time_s"], significant),
            _against(found, full, goal, "time_s"),
            _mean_cost(costs["flops"], scaled),
            _against(found, full, goal, "flops"),
            _mean_cost(costs["energy_j"], significant),
            _or_nothing(max(value(one.record, "peak_bytes") or 0.0 for one in found), megabytes),
            ", ".join(filter(None, notes)),
        )
    return table


def _of_serving(records: Sequence[Record], columns: Cells) -> Table:
    table = _table("method", "way", "tasks", *columns)
    for record in records:
        cells = (_or_nothing(value(record, name), show) for name, show in columns.values())
        table.add_row(record.method, str(record.variant["by"]), str(record.variant["n"]), *cells)
    return table


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


def _cost(one: Training, goal: float | None, what: str) -> Cost | None:
    return None if goal is None else cost(one.curve, goal, what)


def _against(found: Sequence[Training], full: Mapping[int, Training], goal: float | None, what: str) -> str:
    """Return cost to quality over that of full fine-tuning at its best learning rate, seed by seed."""
    ratios = [log_ratio(_cost(one, goal, what), _cost(full[one.seed], goal, what)) for one in found if one.seed in full]
    known = [ratio for ratio in ratios if ratio is not None]
    if not known:
        return ""
    return _between(interval(known), lambda log: f"{math.exp(log):.2f}", known)


def _mean(values: Iterable[float | None]) -> str:
    known = [Observation(number) for number in values if number is not None]
    return _between(interval(known), lambda number: f"{number:.3f}", known) if known else ""


def _mean_cost(costs: Iterable[Cost | None], show: Callable[[float], str]) -> str:
    known = [Observation(one.value, censored="above" if one.censored else "") for one in costs if one is not None]
    return _between(interval(known), show, known) if known else ""


def _between(found: Interval, show: Callable[[float], str], known: Sequence[Observation]) -> str:
    """Return `1.2 [1.1, 1.3]`; `> 1.2` where it is known from below only."""
    if any(one.censored == "above" for one in known):
        return f"> {show(found.value)}"
    if any(one.censored == "below" for one in known):
        return f"< {show(found.value)}"
    if math.isinf(found.low) or math.isinf(found.high) or show(found.low) == show(found.high):
        return show(found.value)
    return f"{show(found.value)} [{show(found.low)}, {show(found.high)}]"


def _unreached(costs: Sequence[Cost | None]) -> str:
    count = sum(one is not None and one.censored for one in costs)
    return f"target not reached in {count} of {len(costs)}" if count else ""


def _or_nothing(number: float | None, show: Callable[[float], str]) -> str:
    return "" if number is None else show(number)


def _table(*titles: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for number, title in enumerate(titles):
        table.add_column(title.strip(), justify="left" if number == 0 else "right", overflow="fold")
    return table
