"""How a comparison is told: the same words in the terminal, in markdown, in annotations and in a red test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from peftbench.gate.scope import INTERPRETER_COUNTERS
from peftbench.gate.verdict import VERDICTS, CaseVerdict, Change, Comparison, SuiteVerdict, Time, Verdict, share
from peftbench.report.numbers import milliseconds

NAMES: Final = {"flops": "FLOPs", "python_calls": "Python calls", "trainable_body": "trained", "trainable_head": "head"}
"""Counters whose name is not their key with blanks."""
MOST_NAMES: Final = 3
"""Operators, modules or unchanged counters that are named in one line; the rest is counted."""
SMALL: Final = 100_000
"""Counts below are written in full."""


def headline(comparison: Comparison, fail_on: Iterable[Verdict]) -> str:
    """Return the verdict as one sentence."""
    failing = comparison.failing(fail_on)
    count = len(comparison.cases)
    if not failing:
        judged = sum(case.verdict not in ("new", "missing", "not comparable") for case in comparison.cases)
        return f"Passed: {judged} of {cases(count)} compared, and none failed."
    parts = [f"{item.name} {item.verdict}" for item in failing if isinstance(item, SuiteVerdict)]
    for verdict in VERDICTS:
        names = [item.id for item in failing if isinstance(item, CaseVerdict) and item.verdict == verdict]
        if names:
            parts.append(f"{len(names)} of {cases(count)} {verdict} ({_some(names)})")
    return f"Failed: {'; '.join(parts)}."


def loudest_first(comparison: Comparison) -> list[CaseVerdict]:
    """Return the cases in the order of VERDICTS, then by id."""
    return sorted(comparison.cases, key=lambda case: VERDICTS.index(case.verdict))


def counts(comparison: Comparison) -> str:
    """Return how many cases have each verdict: `2 regressed, 118 unchanged`."""
    return ", ".join(f"{number} {verdict}" for verdict, number in comparison.counts().items()) or "no cases"


def sensitivity(comparison: Comparison) -> str:
    """Return what slowdown would have been seen."""
    if comparison.detectable is None:
        return "no time was judged: no slowdown would have been seen"
    power = f"{100 * comparison.rule.power:g} %"
    return f"smallest slowdown that is seen with {power} power: {100 * share(comparison.detectable):.1f} %"


def suite_line(item: SuiteVerdict) -> str:
    """Return what became of all cases, or of a reference."""
    moved = f"{item.name} {percent(item.shift)}"
    if item.verdict == "unchanged":
        return moved
    limit = f"more than {100 * item.limit:g} %"
    if item.name.startswith("reference"):
        return f"{item.name} {item.verdict}: it moved by {percent(item.shift)} against the anchor, {limit}"
    return f"{item.name} {item.verdict}: every case moved by {percent(item.shift)} against its reference, {limit}"


def interval(time: Time) -> str:
    """Return how a case moved, with its bounds: `+6.1 % [+4.2 .. +8.0 %]`."""
    return f"{percent(time.shift)} [{_signed(time.low)} .. {percent(time.high)}]"


def milliseconds_moved(case: CaseVerdict) -> str:
    """Return the times of a round: `12.4 -> 13.1`."""
    if case.base_s is None or case.new_s is None:
        return ""
    return f"{milliseconds(case.base_s)} -> {milliseconds(case.new_s)}"


def explanation(case: CaseVerdict, comparison: Comparison) -> str:
    """Return why a case has its verdict: what its launches say, and which counters moved."""
    parts = [_time(case.time, comparison), _counters(case), case.reason]
    return "; ".join(part for part in parts if part)


def message(case: CaseVerdict, comparison: Comparison) -> str:
    """Return one line for a red test or an annotation, without the id."""
    moved = f" {interval(case.time)} against its reference" if case.time is not None else ""
    times = milliseconds_moved(case)
    parts = [f"{case.verdict}{moved}", f"{times} ms" if times else "", explanation(case, comparison)]
    return "; ".join(part for part in parts if part)


def percent(shift: float) -> str:
    """Return a shift in log units as a signed percentage."""
    return f"{_signed(shift)} %"


def cases(count: int) -> str:
    """Return `1 case`, `2 cases`."""
    return f"{count} case" + ("" if count == 1 else "s")


def _signed(shift: float) -> str:
    text = f"{100 * share(shift):+.1f}"
    return "+0.0" if text == "-0.0" else text


def _time(time: Time | None, comparison: Comparison) -> str:
    if time is None or time.verdict is None:
        return ""
    made = f"{time.new_launches} launches against {time.base_launches}"
    if time.verdict == "unchanged":
        return f"a slowdown above {100 * comparison.rule.limit:g} % is excluded"
    if time.verdict == "inconclusive":
        more = time.launches_needed
        return f"about {more} more launches would tell" if more else "more launches would not tell; quieten the machine"
    return f"p {_probability(time.p)}, {made}"


def _probability(p: float) -> str:
    mantissa, _, exponent = f"{max(p, 1e-99):.0e}".partition("e")
    return f"{p:.2g}" if p >= 1e-3 else f"{mantissa}e{int(exponent)}"  # noqa: PLR2004 - 0.001 is shorter than 1e-3


def _counters(case: CaseVerdict) -> str:
    moved = [_counter(change, case) for change in case.counters]
    if case.operators and not any(change.name == "operator_calls" for change in case.counters):
        moved.append("operators " + _differences(case.operators))
    if case.reordered:
        moved.append("operators in another order")
    same = [_name(name) for name in case.same_counters]
    if moved:
        return ", ".join(moved) + (f"; {_some(same)} unchanged" if same else "")
    if case.verdict == "unchanged" or not same:
        return ""
    return f"all {len(same)} counters unchanged"


def _counter(change: Change, case: CaseVerdict) -> str:
    causes = case.operators if change.name == "operator_calls" else ()
    if change.name.startswith("trainable"):
        causes = case.modules
    return f"{_name(change.name)} {_moved(change)}" + (f" ({_differences(causes)})" if causes else "")


def _moved(change: Change) -> str:
    """Return `995 -> 1003`, or `+3.2 %` for large numbers that are not almost the same."""
    small = max(change.before, change.after) < SMALL and change.name not in INTERPRETER_COUNTERS
    relative = change.after / change.before - 1 if change.before else 0.0
    if small or abs(relative) < 0.001:  # noqa: PLR2004 - +0.1 %
        return f"{change.before:.15g} -> {change.after:.15g}"
    return f"{100 * relative:+.1f} %"


def _differences(changes: Sequence[Change]) -> str:
    return _some([f"{change.after - change.before:+g} {change.name}" for change in changes])


def _name(counter: str) -> str:
    return NAMES.get(counter, counter.replace("_", " "))


def _some(names: Sequence[str]) -> str:
    rest = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")
