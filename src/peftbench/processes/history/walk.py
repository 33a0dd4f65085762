"""Walks a history. Each state is made ready, then neighbours run in lock-step, each pair in a pytest of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from peftbench.errors import UserError
from peftbench.processes.history.stages import Wanted
from peftbench.processes.launches.process import Command, plugin_option, run
from peftbench.processes.lockstep.states import Asked, other_state
from peftbench.records.fileio import read_json
from peftbench.records.history import History, Stage, Step, write
from peftbench.report.diffs import read_diff
from peftbench.report.numbers import counted

LOGS: Final = Path(".peftbench/history")
"""Folder for the output of each pytest, relative to the folder in which the history is made."""


@dataclass(frozen=True, kw_only=True)
class Walker:
    """Makes the missing steps of a history."""

    folder: Path
    """Folder in which pytest runs."""
    checkout: Path
    """Folder in the work tree that pytest measures, whose repository has the revisions."""
    options: Sequence[str]
    """Options of pytest, with credentials, which are never stored."""
    cache: Path
    """Folder of work trees and environments."""
    output: Path
    say: Callable[[str], None]
    """Prints a line for the user, one for each step and each state that cannot be made."""

    def prepared(self, wanted: Sequence[Wanted]) -> list[Stage]:
        """Check out and install each state; return the states, with a problem where that failed."""
        return [self._prepared(one) for one in wanted]

    def _prepared(self, wanted: Wanted) -> Stage:
        problem = wanted.stage.problem
        if not problem:
            try:
                other_state(Asked(wanted.text), self._command([]), self.checkout, self.cache, self.say)
            except UserError as error:
                problem = str(error)
        if problem:
            self.say(f"{wanted.stage.name} is left out: {problem}")
        return replace(wanted.stage, problem=problem)

    def walk(self, history: History, texts: Mapping[str, str]) -> History:
        """Run each step that is left, and write the file after each step.

        Args:
            history: The history so far.
            texts: Identity of a state -> its value of --peftbench-against.
        """
        write(history, self.output)
        for number, (base, new) in enumerate(history.left(), start=1):
            start_s = time.monotonic()
            step = self._step(base, new, texts, self.folder / LOGS / f"{number}.txt")
            history = history.with_step(step)
            write(history, self.output)
            took = f"{time.monotonic() - start_s:.0f} s"
            self.say(f"{base.name} -> {new.name}: {step.problem or f'{_outcome(step)}, {took}'}")
        return history

    def _step(self, base: Stage, new: Stage, texts: Mapping[str, str], log: Path) -> Step:
        found = log.with_suffix(".json")
        found.unlink(missing_ok=True)
        more = [
            f"--peftbench-against={texts[base.identity]}",
            f"--peftbench-candidate={texts[new.identity]}",
            f"--peftbench-diff-json={found}",
        ]
        try:
            ending = run(self._command(self.options), log, more=more)
            if found.exists():
                comparison = read_json(found)
                read_diff(comparison, str(found))
                return Step(base.identity, new.identity, comparison)
        except UserError as error:
            return Step(base.identity, new.identity, problem=str(error))
        problem = f"pytest {ending.problem}" if ending.problem else "no case was compared"
        return Step(base.identity, new.identity, problem=f"{problem}; its output: {log}")

    def _command(self, options: Sequence[str]) -> Command:
        words = (sys.executable, "-P", "-m", "pytest", *plugin_option(), *options)
        return Command(arguments=words, folder=self.folder)


def _outcome(step: Step) -> str:
    """Return the number of cases, and the number of each verdict, as text."""
    diff = read_diff(step.comparison or {}, "")
    told = ", ".join(f"{count} {verdict}" for verdict, count in diff.counts.items())
    return f"{counted(len(diff.cases), 'case')} ({told})"
