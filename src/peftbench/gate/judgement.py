"""The gate. It decides how often each case is launched, and judges the launches.

It knows neither pytest nor processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from peftbench.gate import store
from peftbench.gate.compare import compare, condemned, siblings, suspects
from peftbench.gate.constants import Rule
from peftbench.gate.origin import WorseSince
from peftbench.gate.scope import scope
from peftbench.gate.snapshot import Snapshot, snapshot_of
from peftbench.gate.verdict import FAIL_ON, STRICT, CaseVerdict, Comparison, SuiteVerdict, Verdict
from peftbench.records.joining import merge_launches
from peftbench.records.record import Run

Launch = Callable[[Sequence[str], int, Set[str]], list[Run]]
"""Runs cases in fresh processes, given their ids and the number of launches. Returns the runs that are not empty.

The third argument holds ids of cases that earlier launches have proven and counted. Only their time is taken."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a gate, or a comparison of two states of the code, found."""

    run: Run
    comparison: Comparison | None
    """None where there was nothing to compare with."""
    base: str
    """What the run was compared with, or why it was not compared. For people."""
    strict: bool = False
    origins: tuple[WorseSince, ...] = ()
    """Where cases became worse, if a bisection looked for it."""

    @property
    def fail_on(self) -> frozenset[Verdict]:
        """Verdicts that are failures."""
        return STRICT if self.strict else FAIL_ON

    @property
    def failing(self) -> tuple[CaseVerdict | SuiteVerdict, ...]:
        """Verdicts of cases and of the suite that fail."""
        return self.comparison.failing(self.fail_on) if self.comparison else ()

    @property
    def failed(self) -> bool:
        """Whether the gate fails. Without a baseline, only a strict gate fails."""
        return bool(self.failing) if self.comparison else self.strict


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Compares the cases of a run with their baseline."""

    rule: Rule
    folder: Path
    """Folder of the baselines."""
    strict: bool
    covers: Callable[[str], bool]
    """Tells whether a case of the baseline was asked for. Other cases do not count as missing."""

    def judge(self, ids: Sequence[str], launch: Launch) -> Judgement | None:
        """Launch cases as often as the rule says, and compare them with the baseline; None if no case was finished.

        The first launch shows whether times are comparable. If they are not, no further launch follows, because one is
        enough for counters.

        Raises:
            UserError: the baseline cannot be read, or a child refused what it was asked for.
        """
        runs = launch(ids, 1, frozenset())
        if not runs:
            return None
        found = store.find(self.folder, runs[0].fingerprint, runs[0].settings)
        if found is None:
            return Judgement(runs[0], None, self._no_baseline(), self.strict)
        base = narrowed(found.baseline, self.covers)
        if not scope(base, snapshot_of(runs[0])).time:
            runs += launch(ids, self.rule.launches - 1, self._known(base, runs))
            runs = self._cleared(base, runs, launch)
        run = merged(runs)
        comparison = compare(base, snapshot_of(run), self.rule, planned_launches=self.rule.all_launches)
        if all(case.verdict == "new" for case in comparison.cases):
            return Judgement(run, None, self._none_of_these(found.path), self.strict)
        return Judgement(run, comparison, f"against {found.path}", self.strict)

    def _cleared(self, base: Snapshot, runs: Sequence[Run], launch: Launch) -> list[Run]:
        """Launch suspects, later with siblings, until none needs another launch; return all runs, old and new."""
        runs = list(runs)
        now = snapshot_of(merged(runs))
        doubtful = suspects(base, now, self.rule)
        beside = siblings(base, now, self.rule, doubtful)
        for number in range(self.rule.more_launches):
            if not doubtful:
                break
            again = [*doubtful, *(beside if number >= self.rule.launches_alone else ())]
            runs += launch(again, 1, self._known(base, runs))
            left = suspects(base, snapshot_of(merged(runs)), self.rule)
            doubtful = [case for case in doubtful if case in left]
        return runs

    def _known(self, base: Snapshot, runs: Sequence[Run]) -> frozenset[str]:
        """Return the cases of which another launch takes only the time.

        A launch has proven and counted them, and no counter fails. A failing counter is taken again: if it jitters,
        another launch may count less, and the smallest value is compared.
        """
        return proven(runs) - condemned(base, snapshot_of(merged(runs)), self.rule)

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
    """Return the launches as one run. Errors name a launch by its number."""
    return merge_launches({f"launch {number}": run for number, run in enumerate(runs, start=1)})


def proven(runs: Iterable[Run]) -> frozenset[str]:
    """Return the cases that some launch has finished. The first launch that finishes a case takes all its passes."""
    return frozenset(record.id for run in runs for record in run.records if record.status == "ok")


def narrowed(baseline: Snapshot, covers: Callable[[str], bool]) -> Snapshot:
    """Return a baseline without the cases that were not asked for."""
    return replace(baseline, cases={name: case for name, case in baseline.cases.items() if covers(name)})
