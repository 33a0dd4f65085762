"""The cause of a case's verdict, as a sentence that begins with the cause. All reports use it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from peftbench.gate.constants import Rule
from peftbench.gate.meaning import weighs
from peftbench.gate.verdict import CaseVerdict, Change, Comparison, Time, share
from peftbench.report.numbers import PREFIXES, counted, scaled, significant

NOUNS: Final = {
    "flops": "FLOPs",
    "saved_bytes": "bytes saved for backward",
    "peak_live_bytes": "bytes that a round adds at its peak",
    "peak_bytes": "bytes at the peak",
    "weights_bytes": "bytes of weights",
    "gradients_bytes": "bytes of gradients",
    "optimizer_bytes": "bytes of optimizer state",
    "trainable_body": "trained parameters",
    "trainable_head": "trained parameters of the head",
    "total_parameters": "parameters",
    "checkpoint_tensor_bytes": "bytes of saved tensors",
    "checkpoint_other_bytes": "bytes of checkpoint beside its tensors",
    "checkpoint_bytes": "bytes of checkpoint",
    "python_calls": "Python calls",
}
"""Counter -> noun for what it counts. Other counters are called by their keys, with blanks."""
_TRAINED: Final = "trainable"
"""What the names of counters of trained parameters begin with."""
MOST: Final = 3
"""Most causes, operators or modules that are named in a line. The others are counted."""
SMALL: Final = 100_000
"""Smallest count that is written with a prefix. Smaller counts are written in full."""
DIGITS: Final = 9
"""Significant digits from which two numbers are written in full, to show their difference."""


def cause(case: CaseVerdict, comparison: Comparison) -> str:
    """Return the cause of a case's verdict, followed by the change of its time.

    `1.3 % more bytes saved for backward (4.20 -> 4.25 MB); its time has not changed (+0.2 % [-1.0 .. +1.4 %])`
    """
    time = case.time
    led = time is not None and time.verdict == case.verdict and case.verdict in ("regressed", "improved")
    leads = [_moved_time(time, case)] if time is not None and led else []
    leads += [amount(change, case) for change in _guilty(case, comparison)]
    parts = [some(leads)] if leads else [case.reason] if case.verdict in _WITHOUT_NUMBERS else []
    if time is not None and not led:
        parts.append(_time(time, comparison.rule))
    if not any(parts) and case.verdict == "unchanged" and case.same_counters and not case.counters:
        parts.append(f"none of its {counted(len(case.same_counters), 'counter')} moved")
    return "; ".join(filter(None, parts))


_WITHOUT_NUMBERS: Final = frozenset({"regressed", "new", "missing", "not comparable"})
"""Verdicts that a case may have because a side has no numbers. The case's reason is then the cause."""


_TOLD: Final = {
    "improved": "it is faster",
    "regressed": "it is slower",
    "inconclusive": "its time is in doubt",
}
"""Verdict of a time -> what is said of it beside another cause."""


def _guilty(case: CaseVerdict, comparison: Comparison) -> list[Change]:
    """Return the counters that caused the verdict: what is trained first, since all others follow from it."""
    if case.verdict == "regressed":
        found = [change for change in case.counters if change.fails]
    elif case.verdict != "improved":
        return []
    else:
        rule, excluded = comparison.rule, case.time is not None and case.time.excludes(comparison.rule)
        found = [one for one in case.counters if weighs(one.name, one.after, one.before, rule, excluded=excluded)]
    return sorted(found, key=lambda change: not change.name.startswith(_TRAINED))


def notes(case: CaseVerdict, comparison: Comparison) -> list[str]:
    """Return what moved without causing the verdict."""
    guilty = _guilty(case, comparison)
    told = [amount(change, case) for change in case.counters if change not in guilty]
    if case.operators and not any(change.name == "operator_calls" for change in case.counters):
        told.append("operators " + differences(case.operators))
    if case.reordered:
        told.append("operators in another order")
    return told


def interval(time: Time) -> str:
    """Return the shift of a case with its bounds: `+6.1 % [+4.2 .. +8.0 %]`."""
    return f"{percent(time.shift)} {_bounds(time)}"


def milliseconds_moved(case: CaseVerdict) -> str:
    """Return the times of a round: `12.35 -> 13.10`."""
    if case.base_s is None or case.new_s is None:
        return ""
    return f"{significant(case.base_s * 1e3, 4)} -> {significant(case.new_s * 1e3, 4)}"


def percent(shift: float) -> str:
    """Return a shift in log units as a signed percentage."""
    return f"{signed(shift)} %"


def signed(shift: float) -> str:
    """Return a shift in log units as a signed percentage without `%`."""
    text = f"{100 * share(shift):+.1f}"
    return "+0.0" if text == "-0.0" else text


def some(names: Sequence[str]) -> str:
    """Return the first `MOST` names, and the number of the others."""
    rest = len(names) - MOST
    return ", ".join(names[:MOST]) + (f" and {rest} more" if rest > 0 else "")


def differences(changes: Iterable[Change]) -> str:
    """Return the differences of counts: `+8 aten::clone, -2 aten::mm`."""
    return some([f"{change.after - change.before:+g} {change.name}" for change in changes])


def amount(change: Change, case: CaseVerdict) -> str:
    """Return the change of a counter: `1.3 % more FLOPs (4.20M -> 4.25M)`."""
    noun = NOUNS.get(change.name, change.name.replace("_", " "))
    behind = case.operators if change.name == "operator_calls" else ()
    if change.name.startswith(_TRAINED):
        behind = case.modules
    told = f"{_pair(change)}: {differences(behind)}" if behind else _pair(change)
    more = "more" if change.after > change.before else "fewer"
    by = abs(change.after - change.before)
    if not change.before or by < 0.0005 * change.before:  # would be 0.0 %
        return f"{scaled(by) if by >= SMALL else f'{by:.15g}'} {more} {noun} ({told})"
    return f"{100 * by / change.before:.1f} % {more} {noun} ({told})"


def _moved_time(time: Time, case: CaseVerdict) -> str:
    word = "slower" if time.shift > 0 else "faster"
    times = milliseconds_moved(case)
    return f"{abs(100 * share(time.shift)):.1f} % {word} {_bounds(time)}" + (f" ({times} ms)" if times else "")


def _time(time: Time, rule: Rule) -> str:
    if time.verdict == "unchanged" and time.low <= 0 <= time.high:
        told = "its time has not changed"
    elif time.verdict == "unchanged":
        told = f"its time has moved by less than {100 * rule.limit:g} %"
    else:
        told = _TOLD.get(time.verdict or "", "its time is not judged")
    return f"{told} ({interval(time)})"


def _bounds(time: Time) -> str:
    return f"[{signed(time.low)} .. {percent(time.high)}]"


def _pair(change: Change) -> str:
    """Return both numbers at one scale, with enough digits to distinguish them: `4.20 -> 4.25 MB`."""
    largest = max(abs(change.before), abs(change.after))
    in_bytes = change.name.endswith("_bytes")
    step = 0
    if in_bytes or largest >= SMALL:
        while largest >= 1000 ** (step + 1) and step < len(PREFIXES) - 1:
            step += 1
    if step:
        before, after = (value / 1000**step for value in (change.before, change.after))
        for digits in range(3, DIGITS):
            texts = significant(before, digits), significant(after, digits)
            if texts[0] != texts[1]:
                return _joined(*texts, PREFIXES[step], in_bytes=in_bytes)
    return _joined(f"{change.before:.15g}", f"{change.after:.15g}", "", in_bytes=in_bytes)


def _joined(before: str, after: str, prefix: str, *, in_bytes: bool) -> str:
    if in_bytes:
        return f"{before} -> {after} {prefix}B"
    return f"{before}{prefix} -> {after}{prefix}"
