"""Compares the counters of a case, and finds what moved them: operator calls by name, parameters by module."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from peftbench.gate.constants import Rule
from peftbench.gate.meaning import KINDS, MEANINGS, kind_of, on_one_footing, weighs
from peftbench.gate.scope import Scope
from peftbench.gate.snapshot import CaseSnapshot
from peftbench.gate.verdict import Change, Verdict

_PLACES = {name: place for place, name in enumerate(MEANINGS)}


class CounterVerdict(msgspec.Struct, frozen=True, gc=False):
    """The comparison of a case's counters."""

    verdict: Verdict | None
    """None where no counter could be compared."""
    changes: tuple[Change, ...]
    """Counters that moved. Failing ones come first; then they are sorted by kind and by the table of meanings."""
    same: tuple[str, ...]
    """Counters that were compared and did not move."""
    lost: tuple[str, ...]
    """Comparable counters of the old side that the new side has not."""


def compare_counters(
    base: CaseSnapshot, new: CaseSnapshot, scope: Scope, rule: Rule, *, excluded: bool = False
) -> CounterVerdict:
    """Compare the counters of a case. What a counter means decides which rise fails (`weighs`).

    Args:
        base: The case on the old side.
        new: The case on the new side, which is judged.
        scope: Which counters may be compared.
        rule: The constants.
        excluded: Whether a slowdown is excluded, as in `weighs`.
    """
    if base.counters == new.counters and not scope.interpreter:  # a shortcut for most of very many cases
        return CounterVerdict("unchanged" if base.counters else None, (), tuple(base.counters), ())
    old, now = on_one_footing(base.counters, new.counters)
    lost = tuple(sorted(name for name in old.keys() - now.keys() if not scope.of_counter(name)))
    names = [name for name in old if name in now and not scope.of_counter(name)]
    same = tuple([name for name in names if old[name] == now[name]])
    if len(same) == len(names):
        return CounterVerdict("unchanged" if names else None, (), same, lost)

    pairs = {name: (old[name], now[name]) for name in names if old[name] != now[name]}
    moved = [
        Change(name, before, after, fails=weighs(name, before, after, rule, excluded=excluded))
        for name, (before, after) in pairs.items()
    ]
    improved = any(weighs(name, after, before, rule, excluded=excluded) for name, (before, after) in pairs.items())
    verdict: Verdict = "improved" if improved else "unchanged"
    if any(change.fails for change in moved):
        verdict = "regressed"
    return CounterVerdict(verdict, tuple(sorted(moved, key=_rank)), same, lost)


def _rank(change: Change) -> tuple[bool, int, int, str]:
    place = _PLACES.get(change.name, len(_PLACES))
    return not change.fails, KINDS.index(kind_of(change.name)), place, change.name


def moved_counts(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[Change, ...]:
    """Return the counts that moved, the largest difference first; none if one side has no counts."""
    if not before or not after:
        return ()
    pairs = ((name, before.get(name, 0), after.get(name, 0)) for name in {*before, *after})
    changes = [Change(name, old, new) for name, old, new in pairs if old != new]
    return tuple(sorted(changes, key=lambda change: (-abs(change.after - change.before), change.name)))
