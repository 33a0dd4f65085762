"""A comparison for other programs: JSON, GitHub annotations, Bencher, github-action-benchmark."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

import msgspec

from peftbench.gate.snapshot import CaseSnapshot, Snapshot
from peftbench.gate.verdict import CaseVerdict, Change, Comparison, SuiteVerdict, Time, Verdict, share
from peftbench.records.jsondata import Json, encode
from peftbench.report import wording
from peftbench.report.cause import cause
from peftbench.text import Destination, as_json, clean, clean_tree, unmarked

SCHEMA: Final = "peftbench/comparison/1"
"""Name and version of the JSON form."""
ENCODER: Final = msgspec.json.Encoder()
_ESCAPE: Final = re.compile(r"\\[bfnrtu]")
"""Escapes of JSON for characters that are not printable."""
BATCH: Final = 100
"""Cases that are encoded together."""
MAX_ANNOTATIONS: Final = 10
"""Most annotations of one kind that GitHub shows for a step."""


def to_json(comparison: Comparison, *, fail_on: Iterable[Verdict]) -> str:
    """Return the whole comparison as JSON. Changes are shares (0.05 is 5 % slower)."""
    verdicts = frozenset(fail_on)
    head = {
        "schema": SCHEMA,
        "failed": bool(comparison.failing(verdicts)),
        "headline": wording.headline(comparison, verdicts),
        "counts": dict(comparison.counts()),
        "detectable": None if comparison.detectable is None else share(comparison.detectable),
        "notes": list(comparison.notes),
        "rule": encode(comparison.rule),
        "suite": [
            {"name": item.name, "verdict": item.verdict, "change": share(item.shift), "limit": item.limit}
            for item in comparison.suite
        ],
    }
    return _lines(head, (_case(case, comparison) for case in comparison.cases))


def nothing_to_json(why: str, *, failed: bool) -> str:
    """Return the JSON of a comparison that could not be made."""
    head = {
        "schema": SCHEMA,
        "failed": failed,
        "headline": why,
        "counts": {},
        "detectable": None,
        "notes": [],
        "rule": None,
        "suite": [],
    }
    return _lines(head, ())


def _lines(head: Mapping[str, Json], cases: Iterable[Json]) -> str:
    """Return the document with a line for each entry and case, which suits many cases and is readable in a diff."""
    parts = [f'"{name}": {_encoded(value)},\n' for name, value in head.items()]
    rows = [piece for batch in _batches(cases) for piece in (",\n", _encoded_lines(batch))]
    block = ["\n", *rows[1:], "\n"] if rows else []
    text = "".join(["{\n", *parts, '"cases": [', *block, "]\n}\n"])  # one copy of the long text
    return text.replace("##[", r"#\u0023[")  # the same JSON, as of `as_json`: no command in a job's log


def _batches(cases: Iterable[Json]) -> Iterator[list[Json]]:
    rest = iter(cases)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _encoded_lines(values: list[Json]) -> str:
    """Return each value as one line of JSON with clean text. Clean values are found together, which is quicker."""
    with contextlib.suppress(UnicodeEncodeError):  # half of a character
        lines = ENCODER.encode_lines(values)
        if lines.isascii() and b"\\" not in lines and b"\x7f" not in lines:  # what else is unprintable is escaped
            return lines[:-1].decode().replace("\n", ",\n")  # `_lines` removes the marks of a job's log
    return ",\n".join(map(_encoded, values))


def _encoded(value: Json) -> str:
    """Return a value as one line of JSON with clean text.

    The text of most values is clean already. Their encoded form shows that, so that they need no cleaning.
    """
    with contextlib.suppress(UnicodeEncodeError):  # half of a character
        text = ENCODER.encode(value).decode()
        if text.isprintable() and not _ESCAPE.search(text):
            return unmarked(text)
    return unmarked(ENCODER.encode(clean_tree(msgspec.to_builtins(value), Destination.EXPORT)).decode())


class _Time(msgspec.Struct, gc=False):
    """The time of a case in JSON. Changes are shares."""

    verdict: Verdict | None
    change: float
    low: float
    high: float
    p: float
    base_launches: int
    new_launches: int
    detectable: float
    launches_needed: int


class _Row(msgspec.Struct, gc=False, omit_defaults=True, kw_only=True):
    """A case in JSON, without unknown values."""

    id: str
    verdict: Verdict
    cause: str
    reason: str | None = None
    time: _Time | None = None
    base_s: float | None = None
    new_s: float | None = None
    counters: tuple[Change, ...]
    same_counters: tuple[str, ...]
    operators: tuple[Change, ...]
    modules: tuple[Change, ...]
    reordered: bool


def _case(case: CaseVerdict, comparison: Comparison) -> _Row:
    return _Row(
        id=case.id,
        verdict=case.verdict,
        cause=cause(case, comparison),
        reason=case.reason or None,
        time=_time(case.time) if case.time is not None else None,
        base_s=case.base_s,
        new_s=case.new_s,
        counters=case.counters,
        same_counters=case.same_counters,
        operators=case.operators,
        modules=case.modules,
        reordered=case.reordered,
    )


def _time(time: Time) -> _Time:
    return _Time(
        time.verdict,
        share(time.shift),
        share(time.low),
        share(time.high),
        time.p,
        time.base_launches,
        time.new_launches,
        share(time.detectable),
        time.launches_needed,
    )


def github_annotations(comparison: Comparison, *, fail_on: Iterable[Verdict]) -> str:
    """Return `::error` lines for failures, at most as many as GitHub shows."""
    failing = comparison.failing(fail_on)
    most = MAX_ANNOTATIONS if len(failing) <= MAX_ANNOTATIONS else MAX_ANNOTATIONS - 1
    lines = [_annotation(item, comparison) for item in failing[:most]]
    if len(failing) > most:
        lines.append(github_error("peftbench", f"{len(failing) - most} more; see the summary"))
    return "".join(f"{line}\n" for line in lines)


def _annotation(item: CaseVerdict | SuiteVerdict, comparison: Comparison) -> str:
    if isinstance(item, SuiteVerdict):
        title, text = item.name, wording.suite_line(item)
    else:
        title, text = item.id, wording.message(item, comparison)
    return github_error(f"{title} {item.verdict}", text)


def github_error(title: str, text: str) -> str:
    """Return the line that makes GitHub show an error."""
    return f"::error title={clean(title, Destination.GITHUB_PROPERTY)}::{clean(text, Destination.GITHUB)}"


def to_bencher(snapshot: Snapshot) -> str:
    """Return Bencher's metric format: latency in nanoseconds, ratio to the reference, counters."""
    data = {}
    for name, case in sorted(snapshot.cases.items()):
        measures: dict[str, Json] = {}
        if case.time_s is not None:
            measures["latency"] = {"value": case.time_s * 1e9}
        if case.x:
            ratios = _ratios(snapshot, name)
            value = {"value": _mean(ratios), "lower_value": min(ratios), "upper_value": max(ratios)}
            measures["ratio-to-reference"] = value
        measures |= {counter.replace("_", "-"): {"value": value} for counter, value in sorted(case.counters.items())}
        if measures:
            data[name] = measures
    return as_json(data)


def to_action_benchmark(snapshot: Snapshot) -> str:
    """Return the entries of github-action-benchmark's tool `customSmallerIsBetter`."""
    entries = [entry for name, case in sorted(snapshot.cases.items()) for entry in _entries(snapshot, name, case)]
    return as_json(entries)


def _entries(snapshot: Snapshot, name: str, case: CaseSnapshot) -> Iterable[Json]:
    if case.time_s is not None:
        yield {"name": f"{name}: time", "unit": "ms", "value": case.time_s * 1e3}
    if case.x:
        ratios = _ratios(snapshot, name)
        spread = (max(ratios) - min(ratios)) / 2
        extra = f"{len(ratios)} launches"
        yield {
            "name": f"{name}: ratio",
            "unit": "x",
            "value": _mean(ratios),
            "range": f"± {spread:.3g}",
            "extra": extra,
        }
    for counter, value in sorted(case.counters.items()):
        unit = "B" if counter.endswith("_bytes") else "FLOP" if counter == "flops" else "1"
        yield {"name": f"{name}: {counter}", "unit": unit, "value": value}


def _ratios(snapshot: Snapshot, name: str) -> list[float]:
    return [math.exp(x) for x in snapshot.launches(name)]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
