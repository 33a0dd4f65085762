"""Runs cases in fresh processes, one launch after the other. If a process dies, only its launch is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
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
    """What a launch knows of a case."""

    id: str
    """Id of the case in records."""
    node: str
    """Node id of pytest."""
    group: str
    """Group of the case: its task and batch size."""


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """Runs cases in fresh processes."""

    command: Command
    folder: Path
    """Folder for the files of the processes. Each launch has a folder in it."""
    session: str
    say: Callable[[str], None]
    """Prints a line for the user, one for each launch."""
    devices: tuple[str, ...] = ()
    """UUIDs of GPUs. A launch is one process on each GPU with a part of the cases. Without GPUs it is one process."""
    resume: bool = False
    """Whether launches that were interrupted go on from their journals."""

    def launch(
        self, targets: Sequence[Target], count: int, *, after: int = 0, known: Set[str] = frozenset()
    ) -> list[Run]:
        """Run the cases in `count` launches; return a run for each launch that finished a case.

        Args:
            targets: The cases.
            count: Number of launches.
            after: Number of earlier launches of this run.
            known: Ids of cases of which only the time is taken, because earlier launches have taken the other passes.

        Raises:
            UserError: a child refused its options.
        """
        found = [self._one(targets, number, known) for number in range(after + 1, after + count + 1)]
        return [run for run in found if run is not None]

    def _one(self, targets: Sequence[Target], number: int, known: Set[str]) -> Run | None:
        folder = self.folder / str(number)
        if not self.devices:
            return self._process(targets, known, folder, self.command, f"launch {number}")
        parts = divide([target.group for target in targets], len(self.devices))
        jobs = [
            (
                [targets[place] for place in part],
                known,
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

    def _process(
        self, targets: Sequence[Target], known: Set[str], folder: Path, command: Command, name: str
    ) -> Run | None:
        assignment = Assignment(
            session=self.session,
            nodes=tuple(target.node for target in targets),
            known=tuple(target.node for target in targets if target.id in known),
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
        """Return a run of the cases that were finished before a child died; None if none was."""
        try:
            found = salvage(assignment.journal)
        except UserError:
            found = None
        kept = len(found.records) if found else 0
        problem = ending.problem or "yielded no record"
        self.say(f"{name} {problem} after {kept} of {len(assignment.nodes)} cases; its output: {ending.log}")
        return found if kept else None
