"""Runs cases in fresh processes, one launch after the other; one that dies costs that launch only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from peftbench.errors import UserError
from peftbench.processes.launches.assignment import OPTION, Assignment
from peftbench.processes.launches.process import Command, Ending, run
from peftbench.records.joining import join
from peftbench.records.journal import salvage
from peftbench.records.record import Run
from peftbench.records.runfile import load_run
from peftbench.records.shards import divide
from peftbench.report.numbers import counted


@dataclass(frozen=True, slots=True)
class Target:
    """A case as a launch knows it."""

    id: str
    """What it is called in a record."""
    node: str
    group: str


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """Runs cases in fresh processes."""

    command: Command
    folder: Path
    """Where the processes' files go, a folder a launch."""
    session: str
    say: Callable[[str], None]
    """Tells the user, a line a launch."""
    devices: tuple[str, ...] = ()
    """UUIDs of GPUs: a launch is one process on each, with a part of the cases; none: one process."""
    resume: bool = False
    """Whether launches that were cut short before take up their journals."""

    def launch(self, targets: Sequence[Target], count: int, *, after: int = 0) -> list[Run]:
        """Run the cases in `count` fresh processes, and return what those yielded that did not die at once.

        Args:
            targets: The cases.
            count: How many launches.
            after: How many launches there were before, of this run.

        Raises:
            UserError: a child refused what it was asked for.
        """
        found = [self._one(targets, number) for number in range(after + 1, after + count + 1)]
        return [run for run in found if run is not None]

    def _one(self, targets: Sequence[Target], number: int) -> Run | None:
        folder = self.folder / str(number)
        if not self.devices:
            return self._process(targets, folder, self.command, f"launch {number}")
        parts = divide([target.group for target in targets], len(self.devices))
        jobs = [
            (
                [targets[place] for place in part],
                folder / str(place),
                replace(self.command, environment={**self.command.environment, "CUDA_VISIBLE_DEVICES": device}),
                f"launch {number} on {device}",
            )
            for place, (device, part) in enumerate(zip(self.devices, parts, strict=True))
            if part
        ]
        with ThreadPoolExecutor(len(jobs)) as pool:
            runs = list(pool.map(lambda job: self._process(*job), jobs))
        alive = {job[-1]: run for job, run in zip(jobs, runs, strict=True) if run is not None}
        return join(alive) if alive else None

    def _process(self, targets: Sequence[Target], folder: Path, command: Command, name: str) -> Run | None:
        assignment = Assignment(
            session=self.session,
            nodes=tuple(target.node for target in targets),
            device="cuda" if self.devices else "",
            folder=str(folder),
            resume=self.resume and (folder / "journal.jsonl").exists(),
        )
        assignment.run_file.unlink(missing_ok=True)
        ending = run(command, folder / "log.txt", more=[f"{OPTION}={assignment.write()}"])
        if assignment.run_file.exists() and not ending.problem:
            found = load_run(assignment.run_file)
            self.say(f"{name}: {counted(len(found.records), 'case')}, {ending.wall_s:.1f} s")
            return found
        return self._salvaged(assignment, ending, name)

    def _salvaged(self, assignment: Assignment, ending: Ending, name: str) -> Run | None:
        """Return the cases that were finished before a child died, if any."""
        try:
            found = salvage(assignment.journal)
        except UserError:
            found = None
        kept = len(found.records) if found else 0
        problem = ending.problem or "yielded no record"
        self.say(f"{name} {problem} after {kept} of {len(assignment.nodes)} cases; its output: {ending.log}")
        return found if kept else None
