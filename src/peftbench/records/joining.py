"""Joins runs: launches of the same cases, or shards with different cases. Pure functions, no pytest, no torch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from peftbench.errors import UserError
from peftbench.records.estimate import median_estimate, quantile
from peftbench.records.record import Metric, Record, Run, differences

Sources = Mapping[str, Run]
"""Name of a run in errors, such as its file -> the run."""


def merge_launches(runs: Sources) -> Run:
    """Return one run from launches of the same cases, with medians over launches.

    Raises:
        UserError: there is no run, or settings or fingerprints differ.
    """
    require_alike(runs)
    found: dict[str, list[Record]] = defaultdict(list)
    for run in runs.values():
        for record in run.records:
            found[record.id].append(record)
    first = next(iter(runs.values()))
    merged = tuple(merge_records(records) for records in found.values())
    return replace(first, records=merged, notes=_notes([run.notes for run in runs.values()]))


def join(runs: Sources) -> Run:
    """Return one run from runs that share no case, with the records in order.

    Raises:
        UserError: there is no run, settings or fingerprints differ, or a case is in two runs.
    """
    require_alike(runs)
    holders: dict[str, list[str]] = defaultdict(list)
    for name, run in runs.items():
        for record in run.records:
            holders[record.id].append(name)
    if doubled := {case: names for case, names in holders.items() if len(names) > 1}:
        listed = "; ".join(f"{case} in {' and '.join(names)}" for case, names in doubled.items())
        raise UserError(f"a case may be in one run only: {listed}")
    first = next(iter(runs.values()))
    records = tuple(record for run in runs.values() for record in run.records)
    return replace(first, records=records, notes=_notes([run.notes for run in runs.values()]))


def require_alike(runs: Sources) -> None:
    """Refuse runs with different settings or fingerprints.

    Raises:
        UserError: there is no run, or two runs differ; names both and all differences.
    """
    if not runs:
        raise UserError("there is no run to merge")
    (first, one), *others = runs.items()
    for name, other in others:
        different = differences(one.settings, other.settings) | differences(one.fingerprint, other.fingerprint)
        if different:
            listed = ", ".join(f"{key} {old} and {new}" for key, (old, new) in different.items())
            raise UserError(f"{first} and {name} cannot be merged, since they differ: {listed}")


def merge_records(records: Sequence[Record]) -> Record:
    """Return one record from the launches of a case. A failed launch becomes a warning.

    If all launches failed, the first record is returned.
    """
    fine = [record for record in records if record.status == "ok"]
    if not fine:
        return records[0]
    failed = Counter(f"{record.status}: {record.reason}" for record in records if record.status != "ok")
    names = dict.fromkeys(name for record in fine for name in record.metrics)
    metrics = {name: [record.metrics[name] for record in fine if name in record.metrics] for name in names}
    warnings = [
        *dict.fromkeys(warning for record in fine for warning in record.warnings),
        *(f"{count} of {len(records)} launches: {problem}" for problem, count in failed.items()),
        *(f"{name} differs between launches: {_listed(values)}" for name, values in metrics.items() if _differ(values)),
    ]
    return replace(
        fine[0],
        metrics={name: merge_metrics(values) for name, values in metrics.items()},
        launches=tuple(launch for record in fine for launch in record.launches),
        passes_s=_summed(record.passes_s for record in fine),
        stop=Counter(record.stop for record in fine).most_common(1)[0][0],
        quantiles_s=_medians([record.quantiles_s for record in fine]),
        warnings=tuple(warnings),
    )


def merge_metrics(metrics: Sequence[Metric]) -> Metric:
    """Return the median over launches with its interval; for an exact number, the best value.

    Launches may differ in a counter that jitters. Such a counter must not fail a gate unless its best value is worse.
    """
    known = [metric for metric in metrics if metric.value is not None]
    if len(known) <= 1:
        return known[0] if known else metrics[0]
    values = [metric.value for metric in known if metric.value is not None]
    if known[0].noise == "exact":
        return replace(known[0], value=max(values) if known[0].better == "higher" else min(values))
    estimate = median_estimate(values)
    return replace(known[0], value=estimate.median, low=estimate.low, high=estimate.high)


def _differ(metrics: Sequence[Metric]) -> bool:
    return metrics[0].noise == "exact" and len({metric.value for metric in metrics}) > 1


def _listed(metrics: Sequence[Metric]) -> str:
    return ", ".join(str(value) for value in dict.fromkeys(metric.value for metric in metrics))


def _medians(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the median of each column. Rows whose length differs from the first row's are left out."""
    alike = [row for row in rows if len(row) == len(rows[0])]
    return tuple(quantile(sorted(column), 0.5) for column in zip(*alike, strict=True))


def _notes(notes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the notes of all runs as one. Seconds are summed; the rest is taken from the first run."""
    return {
        **notes[0],
        "duration_s": sum(note.get("duration_s", 0.0) for note in notes),
        "passes_s": _summed(note.get("passes_s") or {} for note in notes),
    }


def _summed(maps: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for values in maps:
        for name, value in values.items():
            total[name] = total.get(name, 0.0) + value
    return total
