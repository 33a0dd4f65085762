"""Counters, compared exactly, and what moved them: operator calls by name, parameters by module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from peftbench.gate.rule import Rule
from peftbench.gate.scope import INTERPRETER_COUNTERS, Scope
from peftbench.gate.snapshot import CaseSnapshot
from peftbench.gate.verdict import Change, Verdict


@dataclass(frozen=True, slots=True)
class CounterVerdict:
    """What became of a case's counters."""

    verdict: Verdict | None
    """None where no counter could be compared."""
    changes: tuple[Change, ...]
    """The failing ones first, then by name."""
    same: tuple[str, ...]
    lost: tuple[str, ...]
    """Counters of the baseline that could be compared, and are not measured any more."""


def compare_counters(base: CaseSnapshot, new: CaseSnapshot, scope: Scope, rule: Rule) -> CounterVerdict:
    """Compare the counters of a case: any rise fails, save for what the rule lets the interpreter's rise by."""
    if base.counters == new.counters and not scope.interpreter:  # nearly always, and there may be very many cases
        return CounterVerdict("unchanged" if base.counters else None, (), tuple(base.counters), ())
    lost = tuple(sorted(name for name in base.counters if name not in new.counters and not scope.of_counter(name)))
    names = [name for name in base.counters if name in new.counters and not scope.of_counter(name)]
    same = tuple([name for name in names if base.counters[name] == new.counters[name]])
    if len(same) == len(names):
        return CounterVerdict("unchanged" if names else None, (), same, lost)
    moved = [_change(name, base.counters[name], new.counters[name], rule) for name in names if name not in same]
    improved = any(change.after < change.before * (1 - _tolerance(change.name, rule)) for change in moved)
    verdict: Verdict = "improved" if improved else "unchanged"
    if any(change.fails for change in moved):
        verdict = "regressed"
    return CounterVerdict(verdict, tuple(sorted(moved, key=lambda change: (not change.fails, change.name))), same, lost)


def _change(name: str, before: float, after: float, rule: Rule) -> Change:
    return Change(name, before, after, fails=after > before * (1 + _tolerance(name, rule)))


def _tolerance(name: str, rule: Rule) -> float:
    return rule.interpreter_tolerance if name in INTERPRETER_COUNTERS else 0.0


def moved_counts(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[Change, ...]:
    """Return the counts that moved, the largest difference first; nothing where one side was not counted."""
    if not before or not after:
        return ()
    pairs = ((name, before.get(name, 0), after.get(name, 0)) for name in {*before, *after})
    changes = [Change(name, old, new) for name, old, new in pairs if old != new]
    return tuple(sorted(changes, key=lambda change: (-abs(change.after - change.before), change.name)))
