"""A pytest run that measures nothing itself: its cases run in fresh processes, and its items say what came of them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from peftbench import collection
from peftbench.baseline.verdict import SuiteVerdict
from peftbench.device import choose_gpus
from peftbench.gating import Gate, Judgement, merged
from peftbench.launches.launcher import Launcher, Target
from peftbench.launches.process import Command
from peftbench.record import Record, Run
from peftbench.report import wording
from peftbench.selection import Selection

if TYPE_CHECKING:
    import pytest

    from peftbench.baseline.rule import Rule
    from peftbench.baseline.verdict import CaseVerdict
    from peftbench.session import BenchSession
    from peftbench.settings import Settings

FOLDER: Final = "launches"
"""Relative to the folder of the journal."""
BASELINES: Final = "baselines"
"""Relative to pytest's root directory."""


@dataclass(frozen=True)
class Outcome:
    """What came of the launches."""

    run: Run | None
    """None where every launch died before it had finished a case."""
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
        """Return why a case fails the gate, in one line, or ''."""
        verdict = self.verdicts.get(case_id)
        if verdict is None or self.judgement is None or verdict.verdict not in self.judgement.fail_on:
            return ""
        return self._told(verdict)

    def stray_failures(self, ids: AbstractSet[str]) -> Iterator[tuple[str, str]]:
        """Yield name and message of what fails the gate and is none of the cases `ids`: missing ones, and the suite."""
        if self.judgement is None:
            return
        if self.judgement.comparison is None and self.judgement.failed:
            yield "baseline", self.judgement.base
        for failing in self.judgement.failing:
            if isinstance(failing, SuiteVerdict):
                yield failing.name, wording.suite_line(failing)
            elif failing.id not in ids:
                yield failing.id, self._told(failing)

    def _told(self, verdict: CaseVerdict) -> str:
        comparison = self.judgement and self.judgement.comparison
        return wording.message(verdict, comparison) if comparison else ""


def conduct(config: pytest.Config, bench: BenchSession, items: Sequence[pytest.Item]) -> Outcome:
    """Run the cases as often as the settings or the gate say, and judge them if these ask for it.

    Raises:
        UserError: a child refused what it was asked for, or the baseline cannot be read.
    """
    settings = bench.settings
    cases = targets(bench, items)
    if settings.against:
        return _in_lockstep(config, bench, cases)
    launcher = Launcher(
        command=pytest_command(config, settings.launch_timeout),
        folder=bench.work.absolute() / FOLDER,
        session=bench.name,
        say=_teller(config),
        devices=choose_gpus(settings.gpus) if settings.gpus else (),
        resume=settings.resume,
    )
    gate = None
    if settings.gate:
        gate = Gate(
            rule=rule(settings),
            folder=baselines(config, settings),
            strict=settings.strict,
            covers=_selection(config, bench).covers,
        )
    return run_launches(launcher, cases, launches(settings), gate)


def _in_lockstep(config: pytest.Config, bench: BenchSession, cases: Sequence[Target]) -> Outcome:
    from platformdirs import user_cache_path

    from peftbench.lockstep.duel import Duel
    from peftbench.lockstep.pair import State
    from peftbench.lockstep.states import THIS, other_state

    settings, say = bench.settings, _teller(config)
    command = pytest_command(config, settings.launch_timeout)
    duel = Duel(
        base=other_state(settings.against, command, config.rootpath, user_cache_path("peftbench"), say),
        new=State(name=THIS, command=command),
        folder=bench.work.absolute() / FOLDER,
        session=bench.name,
        say=say,
    )
    judgement = duel.judge(cases, settings.pairs, settings.rule, strict=settings.strict)
    return Outcome(judgement.run, judgement) if judgement else Outcome(None)


def run_launches(launcher: Launcher, cases: Sequence[Target], count: int, gate: Gate | None) -> Outcome:
    """Launch the cases `count` times, or as often as the gate says."""
    launcher.clear()
    made = 0

    def launch(ids: Sequence[str], times: int, known: AbstractSet[str] = frozenset()) -> list[Run]:
        nonlocal made
        wanted = set(ids)
        runs = launcher.launch([case for case in cases if case.id in wanted], times, after=made, known=known)
        made += times
        return runs

    ids = [case.id for case in cases]
    if gate is None:
        runs = launch(ids, count)
        return Outcome(merged(runs) if runs else None)
    judgement = gate.judge(ids, launch)
    return Outcome(judgement.run, judgement) if judgement else Outcome(None)


def targets(bench: BenchSession, cases: Sequence[pytest.Item]) -> list[Target]:
    """Return the cases of items."""
    return [Target(bench.id_of(item), item.nodeid, case.group) for item in cases if (case := collection.case_of(item))]


def baselines(config: pytest.Config, settings: Settings) -> Path:
    """Return the folder of the baselines that a gate reads."""
    return settings.baseline or config.rootpath / BASELINES


def accept_command(config: pytest.Config, settings: Settings, run_file: Path) -> str:
    """Return the command that makes a run the gate's baseline, as it is typed where pytest was started."""
    here, folder = config.invocation_params.dir, baselines(config, settings)
    own = (here / folder).resolve() == (here / BASELINES).resolve()  # what `accept` takes if nothing is said
    words = ["peftbench", "accept", str(run_file), *([] if own else [f"--baseline={folder}"])]
    return f'{shlex.join(words)} --why "..."'


def launches(settings: Settings) -> int:
    """Return how many launches a run without gate makes."""
    return settings.launches or (settings.rule.min_baseline if settings.record else 1)


def rule(settings: Settings) -> Rule:
    """Return the gate's rule; --peftbench-launches is its number of first launches."""
    return settings.rule if settings.launches is None else replace(settings.rule, launches=settings.launches)


def pytest_command(config: pytest.Config, timeout_s: float | None) -> Command:
    """Return how this very pytest run is started again in a fresh process."""
    parameters = config.invocation_params
    isolated = ["-P"] if not {"", str(Path.cwd())} & set(sys.path) else []  # `pytest` adds no folder, `python -m` does
    return Command(
        arguments=(sys.executable, *isolated, "-m", "pytest", *map(os.fspath, parameters.args)),
        folder=parameters.dir,
        timeout_s=timeout_s,
    )


def _teller(config: pytest.Config) -> Callable[[str], None]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return lambda line: None if reporter is None else reporter.write_line(f"peftbench: {line}")


def _selection(config: pytest.Config, bench: BenchSession) -> Selection:
    deselected = {item.nodeid for item in bench.deselected}
    return Selection.of(
        config,
        bench.settings,
        bench.catalogue,
        run=[id_ for node, id_ in bench.ids.items() if node not in deselected],
        deselected=[id_ for node, id_ in bench.ids.items() if node in deselected],
        dropped=[item.name for item in bench.deselected if not collection.case_of(item)],
    )
