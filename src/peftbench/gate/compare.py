"""Compares two snapshots and gives each case a verdict, from the statistics of launches and from counters.

The two sides of a comparison are the old one (`base`) and the new one (`new`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from msgspec import structs

from peftbench.gate import decision
from peftbench.gate.constants import Rule
from peftbench.gate.counters import CounterVerdict, compare_counters, moved_counts
from peftbench.gate.decision import Shifts
from peftbench.gate.moments import Array, ragged_moments
from peftbench.gate.pairs import pair_shifts
from peftbench.gate.scope import Scope, other_conditions, scope
from peftbench.gate.snapshot import CaseSnapshot, Profile, Snapshot
from peftbench.gate.stages import pending
from peftbench.gate.verdict import VERDICTS, CaseVerdict, Comparison, SuiteVerdict, Time, Verdict
from peftbench.records.ids import CaseId


def compare(
    base: Snapshot,
    new: Snapshot,
    rule: Rule | None = None,
    *,
    under_test: Iterable[str] = (),
    planned_launches: int = 0,
    pairs: Mapping[str, Sequence[float]] | None = None,
) -> Comparison:
    """Compare every case of two snapshots.

    Args:
        base: The old side: the baseline, or the older run.
        new: The run to be judged.
        rule: The constants; by default those of `Rule`.
        under_test: Entries of the fingerprint that may differ, because they are what is compared (`peft`).
        planned_launches: Launches that every suspect gets. The smallest detectable slowdown is that of so many, or of
            those made, if these are more.
        pairs: Case -> ln(new / old) of each pair of processes in lock-step. Times are judged by them, if given, and not
            by launches.
    """
    rule = rule or Rule()
    allowed = scope(base, new, under_test)
    suite: list[SuiteVerdict] = []
    if pairs is None:
        timed = [] if allowed.settings else _timed(base, new, rule)
        common, shifts = _shifts(base, new, timed, rule)
        if not allowed.time:
            suite += _common_shift(common, shifts, rule) + _references(base, new, rule)
    else:
        timed = [] if allowed.settings else sorted(pairs)
        shifts = pair_shifts([pairs[name] for name in timed], rule)
    times = dict(zip(timed, _times(shifts, rule, planned_launches, judge=not allowed.time), strict=True))
    if pairs is not None:
        times = {name: structs.replace(time, base_launches=time.new_launches) for name, time in times.items()}
    judged = [time.detectable for time in times.values() if time.verdict is not None]
    return Comparison(
        cases=tuple(
            _case(name, base.cases.get(name), new.cases.get(name), time=times.get(name), allowed=allowed, rule=rule)
            for name in sorted({*base.cases, *new.cases})
        ),
        suite=tuple(suite),
        detectable=float(np.median(judged)) if judged else None,
        notes=allowed.notes(),
        rule=rule,
    )


def suspects(base: Snapshot, new: Snapshot, rule: Rule) -> list[str]:
    """Return the cases that need another launch; none if the times of the two sides are not comparable.

    Cases that fail by a counter are left out, since no time can change their verdict.
    """
    if scope(base, new).time:
        return []
    timed = _timed(base, new, rule)
    _, shifts = _shifts(base, new, timed, rule)
    doubtful = [timed[place] for place in np.flatnonzero(pending(shifts, rule))]
    guilty = condemned(base, new, rule)
    return [name for name in doubtful if name not in guilty]


def condemned(base: Snapshot, new: Snapshot, rule: Rule, *, under_test: Iterable[str] = ()) -> frozenset[str]:
    """Return the cases that fail by a counter whatever their time is: a resource, or the files of a checkpoint."""
    allowed = scope(base, new, under_test)
    both = [name for name in base.cases.keys() & new.cases.keys() if base.cases[name].status == "ok"]
    return frozenset(
        name
        for name in both
        if new.cases[name].status == "ok"
        and compare_counters(base.cases[name], new.cases[name], allowed, rule, excluded=True).verdict == "regressed"
    )


def foreseen(baseline: Snapshot, rule: Rule) -> dict[str, float]:
    """Return the smallest slowdown, as a share, that a gate will find in each case whose time it can judge."""
    every = {name: baseline.launches(name) for name in sorted(baseline.cases)}
    launches = {name: values for name, values in every.items() if len(values) >= rule.min_baseline}
    base = ragged_moments([*launches.values()])
    found = decision.foreseen(base, rule, kinds_of(launches))
    return dict(zip(launches, np.expm1(found).tolist(), strict=True))


def siblings(base: Snapshot, new: Snapshot, rule: Rule, suspected: Iterable[str]) -> list[str]:
    """Return cleared cases to launch beside suspects, which show a common shift; none in a small suite."""
    timed = _timed(base, new, rule)
    if len(timed) < rule.min_cases:
        return []
    cleared = sorted({*timed} - {*suspected})
    evenly = np.linspace(0, len(cleared) - 1, min(rule.siblings, len(cleared))).round().astype(int)
    return [cleared[place] for place in evenly]


def _timed(base: Snapshot, new: Snapshot, rule: Rule) -> list[str]:
    """Return the cases that have launches on both sides, at the same GPU clock."""

    def comparable(case: CaseSnapshot, old: CaseSnapshot | None) -> bool:
        return case.status == "ok" and bool(case.x and old and old.x and not other_conditions(old, case, rule))

    return sorted(name for name, case in new.cases.items() if comparable(case, base.cases.get(name)))


def _shifts(base: Snapshot, new: Snapshot, timed: Sequence[str], rule: Rule) -> tuple[Array, Shifts]:
    """Return the common shift and the test result of each case."""
    launches = [new.launches(name) for name in timed]
    old = ragged_moments([base.launches(name) for name in timed])
    now = ragged_moments(launches)
    kinds = kinds_of(timed)
    common = decision.staged_shift(old, now, launches, rule, kinds)
    return common, decision.shifts(old, now, common, rule, kinds)


def kinds_of(names: Iterable[str]) -> Array:
    """Return the kind of each case, which is its benchmark function."""
    return np.array([CaseId(name).function for name in names])


def _times(shifts: Shifts, rule: Rule, planned_launches: int, *, judge: bool) -> list[Time]:
    planned = max(planned_launches, int(shifts.new_count.max(initial=0)))
    verdicts = _time_verdicts(shifts, rule) if judge else [None] * len(shifts.estimate)
    in_doubt = np.array([verdict == "inconclusive" for verdict in verdicts], dtype=bool)
    needed = np.zeros(len(verdicts), dtype=int)
    needed[in_doubt] = decision.launches_needed(shifts.at(in_doubt), rule)
    columns = (
        shifts.estimate,
        shifts.low,
        shifts.high,
        np.minimum(shifts.p_slower, shifts.p_faster),
        shifts.base_count,
        shifts.new_count,
        decision.detectable(shifts, rule, planned),
        needed,
    )
    return [Time(*row) for row in zip(verdicts, *(column.tolist() for column in columns), strict=True)]


def _time_verdicts(shifts: Shifts, rule: Rule) -> list[Verdict | None]:
    conditions = (
        shifts.base_count < rule.min_baseline,
        decision.slower(shifts, rule),
        decision.faster(shifts, rule),
        decision.excluded(shifts, rule),
    )
    choices = np.select(conditions, (0, 1, 2, 3), 4)
    verdicts: tuple[Verdict | None, ...] = (None, "regressed", "improved", "unchanged", "inconclusive")
    return [verdicts[choice] for choice in choices.tolist()]


def _common_shift(common: Array, shifts: Shifts, rule: Rule) -> list[SuiteVerdict]:
    judged = common[decision.comparable(shifts, rule)]
    if len(judged) < rule.min_cases:
        return []
    shift = float(np.median(judged))
    return [SuiteVerdict("common shift", _beyond(shift, rule.max_shift), shift, rule.max_shift)]


def _beyond(shift: float, limit: float) -> Verdict:
    if abs(shift) <= np.log1p(limit):
        return "unchanged"
    return "regressed" if shift > 0 else "improved"


def _references(base: Snapshot, new: Snapshot, rule: Rule) -> list[SuiteVerdict]:
    """Judge the times of the references, which ratios hide.

    A reference has moved if the shift is significant and beyond `max_reference_shift`.
    """
    names = sorted(base.references.keys() & new.references.keys())
    old, now = (
        ragged_moments([[x for launches in side.references[name].values() for x in launches] for name in names])
        for side in (base, new)
    )
    shifts = decision.shifts(old, now, np.zeros(len(names)), rule)
    certain = decision.slower(shifts, rule) | decision.faster(shifts, rule)
    limit = rule.max_reference_shift
    return [
        SuiteVerdict(f"reference of {name}", _beyond(shift, limit) if sure else "unchanged", shift, limit)
        for name, shift, sure in zip(names, shifts.estimate.tolist(), certain.tolist(), strict=True)
    ]


def _case(
    name: str, base: CaseSnapshot | None, new: CaseSnapshot | None, *, time: Time | None, allowed: Scope, rule: Rule
) -> CaseVerdict:
    if base is None or new is None or base.status != "ok" or new.status != "ok":
        return CaseVerdict(name, *_unpaired(base, new))
    excluded = time is not None and time.excludes(rule)
    counters = compare_counters(base, new, allowed, rule, excluded=excluded)
    verdict = _worse(time.verdict if time is not None else None, counters.verdict)
    clock = other_conditions(base, new, rule) if time is None and not allowed.time else ""
    untimed = "its time is not measured any more" if not clock and _is_untimed(base, new, time, allowed, rule) else ""
    if (
        clock or untimed or counters.lost
    ) and verdict != "regressed":  # a regression here is one of counters, which no clock moves
        verdict = "not comparable"
    profiled = base.profile is not new.profile and not allowed.counters
    moved = profiled and (verdict != "unchanged" or bool(counters.changes))
    return CaseVerdict(
        id=name,
        verdict=verdict,
        reason="; ".join(filter(None, [clock, untimed, _reason(time, counters, allowed, rule)])),
        time=time,
        base_s=_at_one_pace(base.time_s, new.time_s, time),
        new_s=new.time_s,
        counters=counters.changes,
        same_counters=counters.same,
        operators=moved_counts(base.profile.operators, new.profile.operators) if moved else (),
        modules=moved_counts(base.profile.modules, new.profile.modules) if moved else (),
        reordered=profiled and _reordered(base.profile, new.profile),
    )


def _is_untimed(base: CaseSnapshot, new: CaseSnapshot, time: Time | None, allowed: Scope, rule: Rule) -> bool:
    """Tell whether the old side has enough launches of a case, and the new side has none."""
    return time is None and not allowed.time and not new.x and sum(map(len, base.x.values())) >= rule.min_baseline


def _at_one_pace(base_s: float | None, new_s: float | None, time: Time | None) -> float | None:
    """Return the old time as it would be at the machine's present speed, in seconds.

    The machine may have been faster or slower when the old side was timed. The shift leaves this out, so that the two
    raw times could contradict it. The time that is returned differs from the new one by the shift.
    """
    if time is None or base_s is None or new_s is None:
        return base_s
    return new_s * math.exp(-time.shift)


def _reordered(base: Profile, new: Profile) -> bool:
    """Tell whether the same operators are called as often as before, in another order."""
    hashes = {base.operator_hash, new.operator_hash}
    return len(hashes) > 1 and "" not in hashes and base.operators == new.operators


def _worse(one: Verdict | None, other: Verdict | None) -> Verdict:
    if one is None or other is None or one == other:
        return one or other or "not comparable"
    return min(one, other, key=VERDICTS.index)


def _unpaired(base: CaseSnapshot | None, new: CaseSnapshot | None) -> tuple[Verdict, str]:
    """Return verdict and reason of a case that has no numbers on one side."""
    if new is None:
        return "missing", "is not in this run"
    problem = f"{new.status}: {new.reason}" if new.reason else new.status
    if base is None:
        return "new", "" if new.status == "ok" else problem
    if (base.status, base.reason) == (new.status, new.reason) and new.status != "ok":
        return "not comparable", f"{problem}; as before"
    if base.status != "ok":
        before = f"was {base.status} before" + (f" ({base.reason})" if base.reason else "")
        return ("new", before) if new.status == "ok" else ("not comparable", f"{problem}; {before}")
    return "missing" if new.status == "unsupported" else "regressed", f"{problem}; it ran before"


def _reason(time: Time | None, counters: CounterVerdict, allowed: Scope, rule: Rule) -> str:
    reasons = []
    if time is not None and time.verdict is None and not allowed.time:
        reasons.append(
            f"the baseline holds {time.base_launches} of the {rule.min_baseline} launches that its time needs"
        )
    if time is not None and time.verdict == "inconclusive" and time.new_launches < rule.launches:
        reasons.append(f"made {time.new_launches} of the {rule.launches} launches that a verdict needs")
    if counters.lost:
        reasons.append("not measured any more: " + ", ".join(counters.lost))
    if time is None and counters.verdict is None and not allowed.settings:
        reasons.append(allowed.counters or "neither launches with a reference nor counters on both sides")
    return "; ".join(reasons)
