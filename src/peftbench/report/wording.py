"""The sentences about a comparison, which the terminal, markdown, annotations and failing tests share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from peftbench.gate.verdict import VERDICTS, CaseVerdict, Comparison, SuiteVerdict, Time, Verdict, share
from peftbench.report.cause import cause, notes, percent, some
from peftbench.report.numbers import counted

NAMES: Final = {"flops": "FLOPs", "python_calls": "Python calls", "trainable_body": "trained", "trainable_head": "head"}
"""Counter -> name. Other counters are called by their keys, with blanks."""


def headline(comparison: Comparison, fail_on: Iterable[Verdict]) -> str:
    """Return the verdict as one sentence."""
    failing = comparison.failing(fail_on)
    count = len(comparison.cases)
    if not failing:
        judged = sum(case.verdict not in ("new", "missing", "not comparable") for case in comparison.cases)
        return f"Passed: {judged} of {counted(count, 'case')} compared, and none failed."
    parts = [f"{item.name} {item.verdict}" for item in failing if isinstance(item, SuiteVerdict)]
    for verdict in VERDICTS:
        names = [item.id for item in failing if isinstance(item, CaseVerdict) and item.verdict == verdict]
        if names:
            parts.append(f"{len(names)} of {counted(count, 'case')} {verdict} ({some(names)})")
    return f"Failed: {'; '.join(parts)}."


def loudest_first(comparison: Comparison) -> list[CaseVerdict]:
    """Return the cases in the order of VERDICTS, then by id."""
    return sorted(comparison.cases, key=lambda case: VERDICTS.index(case.verdict))


def counts(comparison: Comparison) -> str:
    """Return the number of cases of each verdict: `2 regressed, 118 unchanged`."""
    return ", ".join(f"{number} {verdict}" for verdict, number in comparison.counts().items()) or "no cases"


def sensitivity(comparison: Comparison) -> str:
    """Return the smallest slowdown that would have been seen, as a phrase."""
    if comparison.detectable is None:
        return "no time was judged: no slowdown would have been seen"
    power = f"{100 * comparison.rule.power:g} %"
    return f"smallest slowdown that is seen with {power} power: {100 * share(comparison.detectable):.1f} %"


def level(confidence: float) -> str:
    """Return how sure the interval between two bounds is, each of which has a one-sided confidence: `90 %` for 0.95."""
    return f"{100 * (2 * confidence - 1):.3g} %"


def suite_line(item: SuiteVerdict) -> str:
    """Return the verdict of all cases together, or of a reference, as a sentence."""
    moved, limit = percent(item.shift), f"{100 * item.limit:g} %"
    reference = item.name.startswith("reference")
    if item.verdict == "unchanged":
        what = f"{item.name} {moved} against {'the anchor' if reference else 'the references'}"
        beyond = abs(item.shift) > math.log1p(item.limit)
        return f"{what}: more than {limit}, but not for certain" if beyond else f"{what}, accepted up to {limit}"
    if reference:
        return f"{item.name} {item.verdict}: it moved by {moved} against the anchor, more than {limit}"
    return f"{item.name} {item.verdict}: every case moved by {moved} against its reference, more than {limit}"


def explanation(case: CaseVerdict, comparison: Comparison) -> str:
    """Return why a case has its verdict: the cause, then the evidence, then what else moved."""
    first = cause(case, comparison)
    parts = [first, _evidence(case.time, comparison), _counters(case, comparison)]
    return "; ".join(filter(None, [*parts, "" if case.reason in first else case.reason]))


def message(case: CaseVerdict, comparison: Comparison) -> str:
    """Return one line for a red test or an annotation, without the id."""
    why = explanation(case, comparison)
    return f"{case.verdict}: {why}" if why else case.verdict


def _evidence(time: Time | None, comparison: Comparison) -> str:
    if time is None or time.verdict is None:
        return ""
    if time.verdict == "unchanged":
        return f"a slowdown above {100 * comparison.rule.limit:g} % is excluded"
    if time.verdict == "inconclusive":
        more = time.launches_needed
        return f"about {more} more launches would tell" if more else "more launches would not tell; quieten the machine"
    return f"p {_probability(time.p)}, {time.new_launches} launches against {time.base_launches}"


def _probability(p: float) -> str:
    mantissa, _, exponent = f"{max(p, 1e-99):.0e}".partition("e")
    return f"{p:.2g}" if p >= 1e-3 else f"{mantissa}e{int(exponent)}"  # noqa: PLR2004 - 0.001 is shorter than 1e-3


def _counters(case: CaseVerdict, comparison: Comparison) -> str:
    """Return what moved besides the cause, and which counters did not move."""
    noted, same = notes(case, comparison), [_name(name) for name in case.same_counters]
    told = "noted: " + ", ".join(noted) if noted else ""
    if case.counters or noted:
        still = f"{some(same)} unchanged" if same else ""
    else:
        still = f"{counted(len(same), 'counter')} unchanged" if same and case.verdict != "unchanged" else ""
    return "; ".join(filter(None, [told, still]))


def _name(counter: str) -> str:
    return NAMES.get(counter, counter.replace("_", " "))
