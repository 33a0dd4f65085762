"""The gate: how many launches of which cases, and what comes of them. Knows neither pytest nor processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from peftbench.gate import store
from peftbench.gate.compare import compare, siblings, suspects
from peftbench.gate.origin import Origin
from peftbench.gate.rule import Rule
from peftbench.gate.scope import scope
from peftbench.gate.snapshot import Snapshot, snapshot_of
from peftbench.gate.verdict import FAIL_ON, STRICT, CaseVerdict, Comparison, SuiteVerdict, Verdict
from peftbench.records.joining import merge_launches
from peftbench.records.record import Run

Launch = Callable[[Sequence[str], int], list[Run]]
"""Runs cases, by their ids, in so many fresh processes; returns a run for each that yielded something."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a gate, or a comparison of two states of the code, found."""

    run: Run
    comparison: Comparison | None
    """None where there was nothing to compare with."""
    base: str
    """With what it was compared, or why it was not."""
    strict: bool = False
    origins: tuple[Origin, ...] = ()
    """Where cases became worse, if that was looked for."""

    @property
    def fail_on(self) -> frozenset[Verdict]:
        """Verdicts that are failures."""
        return STRICT if self.strict else FAIL_ON

    @property
    def failing(self) -> tuple[CaseVerdict | SuiteVerdict, ...]:
        """What fails."""
        return self.comparison.failing(self.fail_on) if self.comparison else ()

    @property
    def failed(self) -> bool:
        """Whether the whole fails; without a baseline only a strict one does."""
        return bool(self.failing) if self.comparison else self.strict


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Compares the cases of a run with their baseline."""

    rule: Rule
    folder: Path
    """Of the baselines."""
    strict: bool
    covers: Callable[[str], bool]
    """Tells whether a case of the baseline is asked for; others are not missing."""

    def judge(self, ids: Sequence[str], launch: Launch) -> Judgement | None:
        """Launch cases as often as the rule says, and compare them with the baseline; None if no launch yielded any.

        One launch tells whether times can be compared at all; where they cannot, it is enough for the counters.

        Raises:
            UserError: the baseline cannot be read, or a child refused what it was asked for.
        """
        runs = launch(ids, 1)
        if not runs:
            return None
        found = store.find(self.folder, runs[0].fingerprint, runs[0].settings)
        if found is None:
            return Judgement(runs[0], None, self._no_baseline(), self.strict)
        base = narrowed(found.baseline, self.covers)
        if not scope(base, snapshot_of(runs[0])).time:
            runs += launch(ids, self.rule.launches - 1)
            runs = self._cleared(base, runs, launch)
        run = merged(runs)
        comparison = compare(base, snapshot_of(run), self.rule, planned_launches=self.rule.all_launches)
        if all(case.verdict == "new" for case in comparison.cases):
            return Judgement(run, None, self._none_of_these(found.path), self.strict)
        return Judgement(run, comparison, f"against {found.path}", self.strict)

    def _cleared(self, base: Snapshot, runs: Sequence[Run], launch: Launch) -> list[Run]:
        """Launch suspects again, later with siblings, until all are cleared; return these and the first runs."""
        runs = list(runs)
        now = snapshot_of(merged(runs))
        doubtful = suspects(base, now, self.rule)
        beside = siblings(base, now, self.rule, doubtful)
        for number in range(self.rule.more_launches):
            if not doubtful:
                break
            runs += launch([*doubtful, *(beside if number >= self.rule.launches_alone else ())], 1)
            left = suspects(base, snapshot_of(merged(runs)), self.rule)
            doubtful = [case for case in doubtful if case in left]
        return runs

    def _no_baseline(self) -> str:
        return (
            f"no baseline of these settings in {self.folder}{'' if self.folder.is_dir() else ' (no such folder)'}: "
            "nothing was compared; make one with --peftbench-record and `peftbench accept`"
        )

    def _none_of_these(self, path: Path) -> str:
        return (
            f"none of these cases is in {path}: "
            "nothing was compared; add them with --peftbench-record and `peftbench accept`"
        )


def merged(runs: Sequence[Run]) -> Run:
    """Return the launches as one run, each called by its number in errors."""
    return merge_launches({f"launch {number}": run for number, run in enumerate(runs, start=1)})


def narrowed(baseline: Snapshot, covers: Callable[[str], bool]) -> Snapshot:
    """Return a baseline without the cases that are not asked for."""
    return replace(baseline, cases={name: case for name, case in baseline.cases.items() if covers(name)})
