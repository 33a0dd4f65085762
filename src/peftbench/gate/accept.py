"""Makes a run the baseline, or adds it to the baseline as a session. A baseline changes in no other way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from msgspec import structs

from peftbench.errors import UserError
from peftbench.gate import decision
from peftbench.gate.compare import compare
from peftbench.gate.constants import Rule
from peftbench.gate.keyword import matcher
from peftbench.gate.meaning import parted
from peftbench.gate.moments import ragged_moments
from peftbench.gate.scope import scope
from peftbench.gate.snapshot import Acceptance, CaseSnapshot, Session, Snapshot
from peftbench.gate.verdict import Verdict

Logs = Mapping[str, tuple[float, ...]]
"""Session, oldest first -> one value of each launch, a logarithm of a ratio of times."""
MOST_NAMED: Final = 5
"""Most cases that an error names. The others are counted."""


@dataclass(frozen=True, slots=True)
class AcceptRequest:
    """What is to be accepted, and why."""

    why: str
    keyword: str = ""
    """A -k expression that selects cases by id; an empty one selects all cases of the run."""
    append: bool = False
    """Whether launches are added to those of the baseline, instead of replacing them."""
    prune: bool = False
    """Whether selected cases of the baseline that are not in the run are dropped."""
    date: str = ""
    commit: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The new baseline, and which cases changed in it."""

    baseline: Snapshot
    recorded: tuple[str, ...]
    """Cases that were taken from the run."""
    skipped: Mapping[str, str]
    """Selected cases of the run that have no numbers -> the reason."""
    kept: tuple[str, ...]
    """Cases of the baseline that did not change."""
    untimed: tuple[str, ...] = ()
    """Recorded cases whose counters were taken, and whose times were not: something else used their GPU."""


def accept(old: Snapshot | None, run: Snapshot, request: AcceptRequest, rule: Rule | None = None) -> Accepted:
    """Return the baseline that holds the selected cases of a run.

    Args:
        old: The baseline so far, of the same fingerprint; None if there is none.
        run: The run.
        request: What is to be accepted, and why.
        rule: The constants.

    Raises:
        UserError: nothing is selected, no reason is given, or the baseline has another fingerprint. When appending
            also: there is no baseline, a selected case or the suite has changed, or the baseline holds the session.
    """
    rule = rule or Rule()
    if not request.why.strip() or "\n" in request.why.strip():
        raise UserError("--why: say in one line why this becomes the baseline; it is kept in the file")
    before = old or Snapshot(run.fingerprint, run.settings, {})
    _refuse_foreign(before, run)
    recorded, skipped = _selected(run, request)
    if request.append:
        _refuse_changed(old, run, recorded, rule)
    kept = _kept(before, run, recorded, request)
    alike = recorded if request.append else kept
    keys, sessions = _numbered(before, run, _shift(before, run, alike, rule))
    merge = _append if request.append else _replace
    cases = {name: before.cases[name] for name in kept}
    cases |= {name: merge(before.cases.get(name), run.cases[name], keys, rule) for name in recorded}
    references = _references(before.references, run.references, keys, rule, add=request.append or bool(kept))
    used = {key for logs in (*(case.x for case in cases.values()), *references.values()) for key in logs}
    entry = Acceptance(
        request.date, request.commit, len(recorded), request.why.strip(), request.keyword, append=request.append
    )
    baseline = Snapshot(
        fingerprint=run.fingerprint,
        settings=run.settings,
        cases=cases,
        references=references,
        sessions={key: session for key, session in {**before.sessions, **sessions}.items() if key in used},
        accepted=(*before.accepted, entry),
    )
    untimed = tuple(name for name in recorded if run.cases[name].shared)
    return Accepted(baseline, tuple(recorded), skipped, tuple(kept), untimed)


def _selected(run: Snapshot, request: AcceptRequest) -> tuple[list[str], Mapping[str, str]]:
    """Return the selected cases that have numbers; and the other selected cases with the reason."""
    matches = matcher(request.keyword)
    selected = [name for name in sorted(run.cases) if matches(name)]
    skipped = {name: _problem(run.cases[name]) for name in selected if run.cases[name].status != "ok"}
    if len(skipped) == len(selected):
        if not run.cases:
            raise UserError("nothing to accept: the run has no case")
        reason = "no selected case has numbers" if selected else f"no case of the run matches -k {request.keyword!r}"
        raise UserError(f"nothing to accept: {reason}; the run's cases: {_some(sorted(run.cases))}")
    return [name for name in selected if name not in skipped], skipped


def _kept(before: Snapshot, run: Snapshot, recorded: Iterable[str], request: AcceptRequest) -> list[str]:
    """Return the cases of the baseline that stay as they are."""
    matches, taken = matcher(request.keyword), set(recorded)
    rest = [name for name in sorted(before.cases) if name not in taken]
    return [name for name in rest if not (request.prune and matches(name) and name not in run.cases)]


def _refuse_foreign(before: Snapshot, run: Snapshot) -> None:
    if why := scope(before, run).time:
        raise UserError(f"the baseline is of {why}; accept into another folder, or delete the file if it was renamed")


def _refuse_changed(old: Snapshot | None, run: Snapshot, names: Iterable[str], rule: Rule) -> None:
    """Raise UserError unless the run can be appended to the baseline as a session."""
    if old is None:
        raise UserError("--append: there is no baseline of this fingerprint yet; accept without --append first")
    known = {session.name for session in old.sessions.values()}
    if twice := known & {session.name for session in run.sessions.values()}:
        raise UserError(f"--append: session {min(twice)!r} is in the baseline already")
    comparison = compare(old, run, rule)
    wanted = set(names)
    changed = [
        f"{case.id} {case.verdict}"
        for case in comparison.cases
        if case.id in wanted and _is_refused(case.verdict, shared=run.cases[case.id].shared)
    ]
    changed += [f"{item.name} {item.verdict}" for item in comparison.suite if item.verdict == "regressed"]
    if changed:
        raise UserError(
            f"--append: only an unchanged run can be appended: {_some(changed)}; "
            "mend the change, or accept the run without --append if it is intended"
        )
    if all(run.cases[name].shared for name in wanted):
        raise UserError(
            "--append: something else used the GPU or the core while each case was timed; "
            "run again where nothing else runs"
        )


def _is_refused(verdict: Verdict, *, shared: bool) -> bool:
    """Tell whether a case cannot be appended. One that was timed beside others keeps its old launches."""
    return verdict in ("regressed", "improved") or (verdict == "not comparable" and not shared)


def _problem(case: CaseSnapshot) -> str:
    return f"{case.status}: {case.reason}" if case.reason else case.status


def _some(names: list[str]) -> str:
    rest = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _shift(before: Snapshot, run: Snapshot, names: Iterable[str], rule: Rule) -> float:
    """Return the common shift of some cases, which have not changed, against the baseline; in log units."""
    both = [name for name in names if name in before.cases and name in run.cases and not run.cases[name].shared]
    old, new = (ragged_moments([side.launches(name) for name in both]) for side in (before, run))
    return float(decision.common_shift(new.mean - old.mean, rule))


def _numbered(before: Snapshot, run: Snapshot, shift: float) -> tuple[Mapping[str, str], Mapping[str, Session]]:
    """Return the run's sessions as the baseline numbers them: name -> number, and number -> session."""
    first = 1 + max((int(key) for key in before.sessions if key.isdecimal()), default=0)
    keys = {name: str(number) for number, name in enumerate(run.sessions, first)}
    return keys, {keys[name]: Session(session.name, shift) for name, session in run.sessions.items()}


def _replace(old: CaseSnapshot | None, new: CaseSnapshot, keys: Mapping[str, str], rule: Rule) -> CaseSnapshot:
    """Return the new case. A baseline cannot say that its times were taken beside others: it holds none then."""
    del old
    if new.shared:
        return structs.replace(new, x={}, time_s=None, shared=False)
    return structs.replace(new, x=_newest(_renamed(new.x, keys), rule.full_baseline))


def _append(old: CaseSnapshot | None, new: CaseSnapshot, keys: Mapping[str, str], rule: Rule) -> CaseSnapshot:
    """Return the old case with the new launches.

    Its counters stay, because counters with a tolerance would otherwise creep up from session to session. A sum may be
    replaced by its parts.
    """
    if old is None or old.status != "ok":
        return _replace(old, new, keys, rule)
    launches = old.x if new.shared else _appended(old.x, new.x, keys, rule)
    return structs.replace(old, x=launches, counters=parted(old.counters, new.counters))


def _references(
    old: Mapping[str, Logs], new: Mapping[str, Logs], keys: Mapping[str, str], rule: Rule, *, add: bool
) -> Mapping[str, Logs]:
    """Return the references of the baseline with those of the run added, or those of the run alone."""
    if not add:
        return {name: _newest(_renamed(logs, keys), rule.full_baseline) for name, logs in new.items()}
    return {name: _appended(old.get(name, {}), new.get(name, {}), keys, rule) for name in sorted({*old, *new})}


def _appended(old: Logs, new: Logs, keys: Mapping[str, str], rule: Rule) -> Logs:
    added = {key: values[: rule.session_launches] for key, values in _renamed(new, keys).items()}
    return _newest({**old, **added}, rule.full_baseline)


def _renamed(logs: Logs, keys: Mapping[str, str]) -> Logs:
    return {keys[name]: values for name, values in logs.items()}


def _newest(logs: Logs, most: int) -> Logs:
    """Return the newest `most` launches."""
    found: dict[str, tuple[float, ...]] = {}
    for key in reversed(list(logs)):
        if most > 0:
            found[key] = logs[key][-most:]
        most -= len(logs[key])
    return dict(reversed(list(found.items())))
