"""Runs cases in child processes, as often as the settings or the gate say, or in lock-step with another state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from peftbench.devices.device import choose_gpus
from peftbench.gate.judgement import Gate, Judgement, merged, proven
from peftbench.gate.verdict import SuiteVerdict
from peftbench.processes.launches.launcher import Launcher, Target
from peftbench.records.record import Record, Run
from peftbench.records.workfolder import make_ready
from peftbench.report import wording

if TYPE_CHECKING:
    from peftbench.config.settings import Settings
    from peftbench.gate.constants import Rule
    from peftbench.gate.verdict import CaseVerdict
    from peftbench.processes.launches.process import Command

FOLDER: Final = "launches"
"""Folder of the launches, relative to that of the journal."""


@dataclass(frozen=True, kw_only=True)
class LaunchPlan:
    """How cases are run in child processes."""

    settings: Settings
    command: Command
    """Command that starts the same pytest run in a fresh process."""
    root: Path
    """Root directory of the project, inside its git repository."""
    work: Path
    """Folder for the files of the processes. No other run uses it."""
    baselines: Path
    """Folder of the baselines that a gate reads."""
    session: str
    """Date and a random word."""
    covers: Callable[[str], bool]
    """Tells whether a case of the baseline was asked for. Other cases do not count as missing."""
    say: Callable[[str], None]
    """Prints a line for the user, one for each launch."""

    @property
    def folder(self) -> Path:
        """Folder of the launches."""
        return self.work.absolute() / FOLDER


@dataclass(frozen=True)
class LaunchOutcome:
    """The results of the launches."""

    run: Run | None
    """None if every launch died before it had finished a case."""
    judgement: Judgement | None = None

    @cached_property
    def verdicts(self) -> Mapping[str, CaseVerdict]:
        """The verdict of each case, by id."""
        comparison = self.judgement and self.judgement.comparison
        return {case.id: case for case in comparison.cases} if comparison else {}

    @cached_property
    def records(self) -> dict[str, Record]:
        """The merged records, by id."""
        return {record.id: record for record in self.run.records} if self.run else {}

    def failure(self, case_id: str) -> str:
        """Return why a case fails the gate, in one line; '' if it does not."""
        verdict = self.verdicts.get(case_id)
        if verdict is None or self.judgement is None or verdict.verdict not in self.judgement.fail_on:
            return ""
        return self._message(verdict)

    def stray_failures(self, ids: AbstractSet[str]) -> Iterator[tuple[str, str]]:
        """Yield name and message of failures of the gate that are none of the cases `ids`: missing cases, the suite."""
        if self.judgement is None:
            return
        if self.judgement.comparison is None and self.judgement.failed:
            yield "baseline", self.judgement.base
        for failing in self.judgement.failing:
            if isinstance(failing, SuiteVerdict):
                yield failing.name, wording.suite_line(failing)
            elif failing.id not in ids:
                yield failing.id, self._message(failing)

    def _message(self, verdict: CaseVerdict) -> str:
        if self.judgement is None or self.judgement.comparison is None:
            return ""
        told = [origin.sentence for origin in self.judgement.origins if origin.case == verdict.id]
        return "; ".join([wording.message(verdict, self.judgement.comparison), *told])


def conduct(plan: LaunchPlan, cases: Sequence[Target]) -> LaunchOutcome:
    """Run the cases as often as the settings or the gate say, and judge them if these ask for it.

    Raises:
        UserError: a child refused its options, the baseline cannot be read, or the folder of launches holds files that
            peftbench did not make.
    """
    settings = plan.settings
    make_ready(plan.folder, keep=settings.resume)
    if settings.against:
        return _in_lockstep(plan, cases)
    launcher = Launcher(
        command=plan.command,
        folder=plan.folder,
        session=plan.session,
        say=plan.say,
        devices=choose_gpus(settings.gpus) if settings.gpus else (),
        resume=settings.resume,
    )
    gate = None
    if settings.gate:
        gate = Gate(rule=rule(settings), folder=plan.baselines, strict=settings.strict, covers=plan.covers)
    return run_launches(launcher, cases, launches(settings), gate)


def _in_lockstep(plan: LaunchPlan, cases: Sequence[Target]) -> LaunchOutcome:
    from platformdirs import user_cache_path

    from peftbench.processes.lockstep.contest import Contest

    judgement = Contest(
        settings=plan.settings,
        command=plan.command,
        root=plan.root,
        cache=user_cache_path("peftbench"),
        folder=plan.folder,
        session=plan.session,
        say=plan.say,
    ).judge(cases)
    return LaunchOutcome(judgement.run, judgement) if judgement else LaunchOutcome(None)


def run_launches(launcher: Launcher, cases: Sequence[Target], count: int, gate: Gate | None) -> LaunchOutcome:
    """Launch the cases `count` times, or as often as the gate says.

    The first launch that finishes a case takes all its passes. The others take its time alone.
    """
    made = 0

    def launch(ids: Sequence[str], times: int, known: AbstractSet[str] = frozenset()) -> list[Run]:
        nonlocal made
        wanted = set(ids)
        runs = launcher.launch([case for case in cases if case.id in wanted], times, after=made, known=known)
        made += times
        return runs

    ids = [case.id for case in cases]
    if gate is None:
        runs: list[Run] = []
        for _ in range(count):
            runs += launch(ids, 1, proven(runs))
        return LaunchOutcome(merged(runs) if runs else None)
    judgement = gate.judge(ids, launch)
    return LaunchOutcome(judgement.run, judgement) if judgement else LaunchOutcome(None)


def launches(settings: Settings) -> int:
    """Return how many launches a run without gate makes."""
    return settings.launches or (settings.rule.min_baseline if settings.record else 1)


def rule(settings: Settings) -> Rule:
    """Return the gate's rule, with --peftbench-launches as its number of first launches."""
    return settings.rule if settings.launches is None else replace(settings.rule, launches=settings.launches)
