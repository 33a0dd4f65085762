"""The table at the end of a run, with a block for each group and a row for each method."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from peftbench.records.conditions import HOST_BOUND, HOST_BOUND_BELOW, SHARED_CPU, SHARED_GPU, is_host_bound, shared
from peftbench.records.estimate import LEAST_VALUES
from peftbench.records.record import Metric, Record, Run
from peftbench.report import studies, variants
from peftbench.report.numbers import counted, megabytes, milliseconds, scaled, significant
from peftbench.report.page import page, written
from peftbench.report.table import LINED_GAP, Column, drawn, fitting
from peftbench.report.x_full import full_of, x_full
from peftbench.text import on_terminal

UNKNOWN: Final = "unknown"
"""Stands for an entry of fingerprint or settings that a run file does not have."""
RANGES: Final = "[ ]      of fewer than six rounds or launches: their range, not a 95 % interval (of three: 75 %)"

Row = tuple[Record, Record | None]
"""A record, and the record of full fine-tuning in the same block; None if there is none."""


def render(run: Run, *, width: int, color: bool = False) -> str:
    """Return the table of a run, no line longer than `width`."""
    console = page(width=width, color=color)
    for line in head(run):
        console.print(on_terminal(line))
    found = blocks(record for record in run.records if not studies.has_table(record))
    columns = _columns([_rows(records) for _, records in found], width)
    for title, records in found:
        console.print()
        console.print(on_terminal(title), style="bold")
        console.print(drawn(columns, _rows(records)))
        for reason in holes(records):
            console.print(on_terminal(reason))
    studies.write(run, console, width)
    for reason in holes(filter(studies.has_table, run.records)):
        console.print(on_terminal(reason))
    console.print()
    for line in [*conditions(run), *foot(run)]:
        console.print(on_terminal(line))
    return written(console)


def head(run: Run) -> list[str]:
    """Return the lines above the table: machine and noise, model and settings, versions, and the meaning of ratios."""
    fingerprint, settings = _told(run.fingerprint), _told(run.settings)
    weights = " (random weights: times do not depend on them)" if run.notes.get("random_weights") else ""
    versions = ", ".join(f"{name} {fingerprint[name]}" for name in ("python", "torch", "transformers", "peft"))
    device = fingerprint["device" if settings["device"] == "cuda" else "cpu"]
    noise = describe_noise(run.notes.get("noise") or {})
    lines = [
        f"machine  {device}, {fingerprint['threads']} thread(s){f'; {noise}' if noise else ''}",
        f"model    {settings['model']}{weights}, {_precision(settings)}, data {settings['data']}",
        f"versions {versions}",
    ]
    if any(_metric(record, "ratio") for record in run.records):
        reference = settings["reference"]
        lines.append(f"x base: time against the {reference} step, round by round; x full: quotient of two such ratios")
    lines += _protocol(run.settings)
    return [*lines, RANGES] if any(map(gives_range, run.records)) else lines


def _told(entries: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return entries of a run file; an entry that the file lacks is unknown, as its schema requires none."""
    return defaultdict(lambda: UNKNOWN, entries)


def _precision(settings: Mapping[str, Any]) -> str:
    """Return dtype, autocast and execution, as far as they are not those of a plain model."""
    words = [settings["dtype"], " under autocast" if settings.get("autocast") else ""]
    execution = settings.get("execution", "eager")
    return "".join([*words, "" if execution == "eager" else f", execution {execution}"])


def _protocol(settings: Mapping[str, Any]) -> list[str]:
    """Return a line about the protocol, if there was one, with the settings that were given other values."""
    from peftbench.config.options import parsed
    from peftbench.config.protocols import PROTOCOLS
    from peftbench.config.settings import options

    name = str(settings.get("protocol"))
    if name not in PROTOCOLS:
        return []
    meant = {key: parsed(key, options()[key], text) for key, text in PROTOCOLS[name].items() if key in settings}
    # A list has become one of JSON's, or not yet.
    others = [key for key, value in meant.items() if value != (tuple(v) if isinstance(v := settings[key], list) else v)]
    changed = ", ".join(f"{key} {settings[key]}" for key in others)
    return [f"protocol {name}{', but ' if changed else ''}{changed}"]


def describe_noise(readings: Mapping[str, float]) -> str:
    """Return the readings of `noise()` as text; '' if there are none, as of two states in lock-step."""
    words = []
    if "load_1min" in readings:
        words.append(f"load {readings['load_1min']:.2f}")
    if "cpu_pressure_percent" in readings:
        words.append(f"CPU pressure {readings['cpu_pressure_percent']:.1f} %")
    return ", ".join(words)


def blocks(records: Iterable[Record]) -> list[tuple[str, list[Record]]]:
    """Return the records of each benchmark function, task, batch size and length, with a title.

    Several functions may have the same workload: those that measure a lambda, or the default workload.
    """
    found: dict[tuple[str, str, str, str], list[Record]] = {}
    for record in records:
        found.setdefault((record.workload, record.function, record.group, variants.lengths(record)), []).append(record)
    return [
        (f"{named(members[0])}  {members[0].task}, batch size {members[0].batch_size}, {lengths}", members)
        for (*_, lengths), members in found.items()
    ]


def named(record: Record) -> str:
    """Return the workload of a record, with the benchmark function if that is called otherwise."""
    return record.workload if record.function == record.workload else f"{record.workload} ({record.function})"


def holes(records: Iterable[Record]) -> list[str]:
    """Return a line for each method and reason why rows have no numbers. It counts the variants of several."""
    found: dict[tuple[str, str, str], dict[str, None]] = {}
    for record in records:
        if record.status != "ok":
            found.setdefault((record.method, record.status, record.reason), {})[variants.method(record)] = None
    return [
        f"  {next(iter(named)) if len(named) == 1 else f'{method}, {len(named)} variants'}: {status}: {reason}"
        for (method, status, reason), named in found.items()
    ]


def conditions(run: Run) -> list[str]:
    """Return a line for each condition under which times of this run are not what they seem."""
    found = []
    known = [record for record in run.records if _metric(record, "busy_share")]
    bound = [record for record in known if is_host_bound(record)]
    if bound:
        found.append(
            f"{HOST_BOUND}: {counted(len(bound), 'case')} of {len(known)}. The GPU was busy for less than "
            f"{HOST_BOUND_BELOW:.0%} of a round, so Python and kernel launches set these times"
        )
    for what in (SHARED_GPU, SHARED_CPU):
        others = [who for record in run.records if (who := shared(record.warnings).get(what))]
        if others:
            how = dict.fromkeys(chain.from_iterable(others))
            found.append(f"{what}: {counted(len(others), 'case')} of {len(run.records)}: {'; '.join(how)}")
    return found


def foot(run: Run) -> list[str]:
    """Return the lines below the table: the time of the run, its shares, and the resident memory."""
    notes = run.notes
    passes: Mapping[str, float] = notes.get("passes_s", {})
    duration_s = float(notes.get("duration_s", 0.0))
    if not duration_s or not passes:
        return []
    count, resumed = len(run.records), notes.get("resumed", 0)
    cases = f"{counted(count, 'case')}, {resumed} of them resumed, in {duration_s:.1f} s"
    if not resumed:
        cases = f"{counted(count, 'case')} in {duration_s:.1f} s ({duration_s / count:.2f} s a case)"
    shares = ", ".join(
        f"{name} {100 * passes.get(name, 0.0) / duration_s:.0f} %" for name in ("rounds", "validity", "counters")
    )
    lines = [f"{cases}; of this in timed {shares}"]
    resident: Sequence[Any] = notes.get("resident_bytes", ())
    if resident:
        first, last = resident[0], resident[-1]
        lines.append(f"resident memory after the first case {first / 1e6:.0f} MB, after the last {last / 1e6:.0f} MB")
    return lines


def _columns(blocks: Sequence[Sequence[Row]], width: int) -> list[Column]:
    """Return the columns that are not empty in all blocks, as many as fit the terminal."""
    kept = [column for column in COLUMNS if column.rank == 0 or any(map(column.cell, chain.from_iterable(blocks)))]
    return fitting(kept, blocks, width, LINED_GAP)


def _rows(records: Sequence[Record]) -> list[Row]:
    full = full_of(records)
    return [(record, full) for record in records]


def gives_range(record: Record) -> bool:
    """Tell whether a record has too few launches, or too few rounds in one launch, for a 95 % interval."""
    launches = record.launches
    count = launches[0].rounds if len(launches) == 1 else len(launches)
    return 1 < count < LEAST_VALUES


def _metric(record: Record | None, name: str) -> Metric | None:
    metric = record.metrics.get(name) if record else None
    return metric if metric and metric.value is not None else None


def _number(name: str, show: Callable[[float], str]) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        metric = _metric(row[0], name)
        return show(metric.value) if metric and metric.value is not None else ""

    return cell


def _interval(row: Row) -> str:
    metric = _metric(row[0], "time_s")
    if not metric or metric.value is None:
        return ""
    if metric.low is None or metric.high is None:
        return milliseconds(metric.value)
    return f"{milliseconds(metric.value)} [{milliseconds(metric.low)}, {milliseconds(metric.high)}]"


def _against_full(name: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        quotient = x_full(*row, name)
        return "" if quotient is None else f"{quotient:.2f}"

    return cell


def _phases(row: Row) -> str:
    metrics = [_metric(row[0], f"{phase}_s") for phase in ("forward", "backward", "optimizer")]
    return "/".join(milliseconds(metric.value) for metric in metrics if metric and metric.value is not None)


def _trained(row: Row) -> str:
    body, head = _metric(row[0], "trainable_body"), _metric(row[0], "trainable_head")
    if not (body and head and body.value is not None and head.value is not None):
        return ""
    return f"{scaled(body.value)}+{scaled(head.value)}"


def _status(row: Row) -> str:
    bound = [HOST_BOUND] if is_host_bound(row[0]) else []
    return ", ".join([row[0].status, *bound, *shared(row[0].warnings)])


COLUMNS: Final = (
    Column("method", lambda row: variants.method(row[0]), text=True),
    Column("ms [95 %]", _interval),
    Column("x base", _number("ratio", "{:.2f}".format), rank=3),
    Column("x full", _against_full("ratio")),
    Column("fwd/bwd/opt ms", _phases, rank=4),
    Column("GPU busy", _number("busy_share", "{:.0%}".format), rank=1),
    Column("token/s", _number("tokens_per_s", scaled), rank=5),
    Column("peak MB", _number("peak_bytes", megabytes), rank=1),
    Column("cache MB", _number("cache_bytes", megabytes), rank=2),
    Column("MB x full", _against_full("peak_bytes"), rank=2),
    Column("body+head", _trained, rank=1),
    Column("checkpoint MB", _number("checkpoint_bytes", megabytes), rank=3),
    Column("compile s", _number("compile_s", significant), rank=1),
    Column("status", _status, text=True),
)
