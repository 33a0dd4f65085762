"""Reduces what tools/gpu_check.sh measured to one table and one JSON.

    python tools/gpu_report.py FOLDER [--json FILE]

The folder holds the run files `eager.json`, `again.json` and `graph.json`, `bias.json` of tools/check_bias.py,
`probes.json` of tools/check_probes.py, and `steps.tsv` with name, seconds and result of each step. What is missing is a
row without a value.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

BIAS = (0.99, 1.01)
"""Bounds within which the whole interval of a bias should lie."""
Records = Mapping[str, Mapping[str, Any]]
"""Case id -> record."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    value: float | None
    unit: str
    aim: str = ""
    good: bool | None = None
    """Whether the aim is reached; None where there is none, or no value."""
    note: str = ""


LOG_CHARACTERS = 6_000
"""End of the log of a step that is kept."""


def content(path: Path) -> Any:  # noqa: ANN401 - any JSON
    """Return what a file holds; None if there is none, or one that was cut off."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def records(path: Path) -> Records:
    """Return the records of a run file that have numbers; none if there is no file."""
    return {one["id"]: one for one in (content(path) or {"records": []})["records"] if one["status"] == "ok"}


def holes(folder: Path) -> dict[str, str]:
    """Return the reason of each case of a run without numbers."""
    runs = {name: content(folder / f"{name}.json") or {"records": []} for name in ("eager", "again", "graph")}
    return {
        f"{name} {one['id']}": f"{one['status']}: {one['reason']}"
        for name, run in runs.items()
        for one in run["records"]
        if one["status"] != "ok"
    }


def value(record: Mapping[str, Any] | None, name: str) -> float | None:
    """Return a metric of a record, or None."""
    found = (record or {"metrics": {}})["metrics"].get(name, {}).get("value")
    return None if found is None else float(found)


def quotients(first: Records, name: str, second: Records, other: str) -> list[float]:
    """Return the metric `name` of each case in `first` over the metric `other` of the same case in `second`."""
    pairs = [(value(record, name), value(second.get(case), other)) for case, record in first.items()]
    return [mine / theirs for mine, theirs in pairs if mine and theirs]


def apart(found: list[float]) -> float | None:
    """Return the largest distance of quotients from 1, as a share."""
    return max((abs(math.log(one)) for one in found), default=None)


def moved_counters(first: Records, second: Records) -> list[str]:
    """Return `case: counter` for each exact number that differs between two runs, or is missing in one."""
    found = []
    for case in first.keys() & second.keys():
        mine, theirs = (
            {name: metric["value"] for name, metric in run[case]["metrics"].items() if metric["noise"] == "exact"}
            for run in (first, second)
        )
        found += [f"{case}: {name}" for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)]
    return sorted(found)


def case_seconds(run: Records) -> tuple[float | None, float | None]:
    """Return the mean seconds of a case, and the share of rounds and energy windows in them."""
    taken = [one["passes_s"] for one in run.values() if one.get("passes_s")]
    if not taken:
        return None, None
    total = sum(sum(seconds for name, seconds in one.items() if name != "rounds") for one in taken)
    inside = sum(one.get("rounds", 0.0) for one in taken)
    inside += sum(value(one, "energy_window_s") or 0.0 for one in run.values())
    return total / len(taken), inside / total


def rows(folder: Path) -> Iterator[Row]:
    """Yield the rows of the table."""
    eager, again, graph = (records(folder / f"{name}.json") for name in ("eager", "again", "graph"))
    yield _row("event over wall time, least", min(quotients(eager, "device_s", eager, "time_s"), default=None))
    for name, what, most in (
        ("time_s", "wall time between two launches", 0.05),
        ("ratio", "x base between two launches", 0.02),
        ("busy_s", "busy time between two launches", 0.02),
        ("energy_j", "joules between two launches", 0.10),
    ):
        distance = apart(quotients(again, name, eager, name))
        yield _row(f"{what}, largest difference", distance, "share", within=(0, most))
    moved = moved_counters(eager, again)
    count = float(len(moved)) if eager and again else None
    yield _row("counters that differ between launches", count, within=(0, 0), note="; ".join(moved[:5]))
    shares = [share for record in eager.values() if (share := value(record, "busy_share")) is not None]
    yield _row("GPU busy, median case", median(shares) if shares else None, "share")
    bound = apart(quotients(eager, "busy_s", graph, "time_s"))
    note = "kernels differ where a library leaves a mask out of an eager round"
    yield _row("eager busy over graph time, farthest from 1", bound, "share", within=(0, 0.05), note=note)
    faster = quotients(graph, "time_s", eager, "time_s")
    yield _row("graph over eager time, median case", median(faster) if faster else None)
    seconds, inside = case_seconds(eager)
    yield _row("seconds a case", seconds, "s", within=(0, 4))
    yield _row("share of rounds and windows", inside, "share", within=(0.5, 1))
    yield from _bias(folder / "bias.json")
    yield from _probes(folder / "probes.json")


def _bias(path: Path) -> Iterator[Row]:
    low, high = BIAS
    for one in content(path) or []:
        what, note = f"bias, {one['workload']} {one['method']}", f"[{one['low']:.4f}, {one['high']:.4f}]"
        inside = low <= one["low"] and one["high"] <= high
        yield Row(what, one["ratio"], "1", f"interval in {low:g} .. {high:g}", inside, note)


def _probes(path: Path) -> Iterator[Row]:
    found = content(path) or {}
    yield _row("busy time of products over event time", found.get("busy_over_events"), within=(0.98, 1.02))
    yield _row("what a profile leaves in later steps", found.get("after_profile"), "share", within=(-math.inf, 0.01))
    yield _row("what the sampler costs a step", found.get("sampler_cost"), "share", within=(-math.inf, 0.01))
    yield _row("time of one sample", found.get("sample_s"), "s")


def _row(
    what: str, found: float | None, unit: str = "1", *, within: tuple[float, float] | None = None, note: str = ""
) -> Row:
    """Return a row whose value should lie within two bounds."""
    if within is None:
        return Row(what, found, unit, note=note)
    low, high = within
    aim = f"<= {high:g}" if low <= 0 else f"{low:g} .. {high:g}"
    return Row(what, found, unit, aim, None if found is None else low <= found <= high, note)


def steps(path: Path) -> list[dict[str, Any]]:
    """Return name, seconds, result and the end of the log of each step."""
    lines = path.read_text().splitlines() if path.exists() else []
    taken = [dict(zip(("step", "seconds", "result"), line.split("\t"), strict=True)) for line in lines]
    return [{**one, "log": _end(path.with_name(f"{one['step']}.log"))} for one in taken]


def _end(log: Path) -> str:
    return log.read_text(errors="replace")[-LOG_CHARACTERS:] if log.exists() else ""


def table(found: list[Row], taken: list[dict[str, Any]]) -> str:
    """Return the table for people."""
    marks = {True: "ok", False: "NOT REACHED", None: ""}
    lines = [f"{'what':46} {'value':>10} {'unit':6} {'aim':24} "]
    for row in found:
        shown = "-" if row.value is None else f"{row.value:.4g}"
        lines.append(f"{row.what:46} {shown:>10} {row.unit:6} {row.aim:24} {marks[row.good]} {row.note}".rstrip())
    lines += [f"step {one['step']:41} {one['seconds']:>10} {'s':6} {'':24} {one['result']}" for one in taken]
    return "\n".join(lines)


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, help="default: gpu_check.json in the folder")
    options = parser.parse_args()
    found, taken = list(rows(options.folder)), steps(options.folder / "steps.tsv")
    target = options.json or options.folder / "gpu_check.json"
    target.write_text(
        json.dumps({"rows": [asdict(row) for row in found], "holes": holes(options.folder), "steps": taken}, indent=1)
    )
    print(table(found, taken))
    print(f"JSON: {target}")


if __name__ == "__main__":
    main()
