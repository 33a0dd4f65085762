"""The state of one pytest session: options become cases, cases become records, records become files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest

from peftbench.config.settings import Settings
from peftbench.libraries import warnings_only
from peftbench.plugin import assigned
from peftbench.plugin.collection import record_ids
from peftbench.records.fileio import is_stream
from peftbench.records.workfolder import owned

if TYPE_CHECKING:
    from pathlib import Path

    from peftbench.matrix.catalogue import Catalogue
    from peftbench.plugin.marks import CaseMark
    from peftbench.processes.conduct import LaunchOutcome
    from peftbench.processes.launches.assignment import Assignment
    from peftbench.records.ids import Case
    from peftbench.records.journal import Journal
    from peftbench.records.record import Record, Run
    from peftbench.run.runner import Runner
    from peftbench.workloads.backend import Backend

WORK: Final = ".peftbench"
"""Default folder of the journal and of launches, relative to pytest's root directory."""

T = TypeVar("T")


class BenchSession:
    """The state of the plugin on pytest's stash. Nothing is read or built before it is used."""

    def __init__(
        self, config: pytest.Config, sources: Sequence[Mapping[str, object]], assignment: Assignment | None = None
    ) -> None:
        """Keep the arguments.

        Args:
            config: Configuration of pytest.
            sources: Sources of the settings, the strongest first.
            assignment: Assignment of a child; None in any other run.
        """
        self._config = config
        self._sources = assigned.sources(sources, assignment) if assignment else sources
        self._assignment = assignment
        self.name = assignment.session if assignment else f"{datetime.now(UTC):%Y-%m-%d}-{os.urandom(3).hex()}"
        self._started_s = time.perf_counter()
        self._backend: Backend | None = None
        self._runner: Runner | None = None
        self._journal: Journal | None = None
        self._owned = ExitStack()
        self._threads: int | None = None
        self._studies = False
        self._known: set[str] = set(assignment.known if assignment else ())
        self._ids: Mapping[str, str] = {}
        self._deselected: list[pytest.Item] = []
        self._outcome: LaunchOutcome | None = None
        self._failed: set[str] = set()
        self._notes: dict[str, Any] = {}
        self._records: dict[str, Record] = {}
        self._resumed: frozenset[str] = frozenset()
        self._resident_bytes: list[int] = []
        """Resident memory after each case, to show that memory does not grow."""

    def is_known(self, node: str) -> bool:
        """Tell whether only the time of a test is taken, because an earlier process has taken all passes."""
        return node in self._known

    def know(self, node: str) -> None:
        """Take only the time of a test from now on, because an earlier process has taken all passes."""
        self._known.add(node)

    @property
    def ids(self) -> Mapping[str, str]:
        """Node id of a case -> its id in records."""
        return self._ids

    @property
    def deselected(self) -> Sequence[pytest.Item]:
        """Items that are not run."""
        return self._deselected

    @property
    def outcome(self) -> LaunchOutcome | None:
        """Results of the launches; None if the cases run in this process, or before the launches."""
        return self._outcome

    @property
    def failed(self) -> AbstractSet[str]:
        """Ids of the cases whose own test has failed because of the launches."""
        return self._failed

    @property
    def records(self) -> Mapping[str, Record]:
        """Records of the finished cases, by id."""
        return self._records

    @property
    def resumed(self) -> frozenset[str]:
        """Ids of the cases that the resumed run had finished."""
        return self._resumed

    def collected(self, items: Sequence[pytest.Item]) -> None:
        """Give an id to each case of the items and of the deselected items."""
        self._ids = record_ids([*items, *self._deselected])

    def deselect(self, items: Sequence[pytest.Item]) -> None:
        """Remember items that exist without being run."""
        self._deselected.extend(items)

    def conclude(self, outcome: LaunchOutcome) -> None:
        """Keep the results of the launches."""
        self._outcome = outcome
        self._records.update(outcome.records)

    def failed_in_its_test(self, case_id: str) -> None:
        """Remember that the test of a case has failed because of the launches."""
        self._failed.add(case_id)

    def note(self, name: str, value: object) -> None:
        """Add an entry to the notes of the run."""
        self._notes[name] = value

    @cached_property
    def settings(self) -> Settings:
        """Settings of the user. In lock-step, names that this state of the code does not know are left out."""
        found = Settings.read(*self._sources)
        if self._assignment is None or self._assignment.socket is None:
            return found
        from peftbench.matrix.cases import known

        return known(found, self.catalogue)

    @property
    def delegates(self) -> bool:
        """Whether cases are measured in child processes, and not in this one."""
        return self._assignment is None and self.settings.delegates

    @property
    def run_file(self) -> Path | None:
        """File to which the run is written, or None. A run that is recorded for a baseline always has one."""
        return self.settings.json or (self.work / "run.json" if self.settings.record else None)

    @property
    def work(self) -> Path:
        """The folder of the journal and of launches."""
        return self.settings.work or self._config.rootpath / WORK

    @cached_property
    def catalogue(self) -> Catalogue:
        """The catalogue, with what conftest.py files and plugins add."""
        from peftbench.matrix.catalogue import Catalogue

        hook = self._config.hook
        return Catalogue.load(
            methods=_flat(hook.pytest_peftbench_methods()),
            tasks=_flat(hook.pytest_peftbench_tasks()),
            models=_flat(hook.pytest_peftbench_models()),
            workloads=_flat(hook.pytest_peftbench_workloads()),
            anatomies=_flat(hook.pytest_peftbench_anatomies()),
        )

    def check(self) -> None:
        """Refuse names that do not exist, and files that cannot be written, before anything is collected."""
        from peftbench.devices.precision import Precision
        from peftbench.matrix.cases import select, select_methods

        settings = self.settings
        Precision.of(settings)
        select("workload", settings.workloads, self.catalogue.workloads)
        select("task", settings.tasks, self.catalogue.tasks)
        select_methods(settings.methods, self.catalogue.methods)
        for path in (settings.json, settings.diff_json, settings.bencher_json, settings.action_json):
            if path is not None:
                is_stream(path)

    def cases(self, mark: CaseMark, *, named: bool = False) -> tuple[Case, ...]:
        """Return the cases of a benchmark function; none if its workload is not selected.

        Args:
            mark: Marker of the function.
            named: Whether the file of the function is named on the command line, and not only a folder around it.
        """
        from peftbench.matrix.cases import ALL, matrix

        settings = self.settings
        workload = self.catalogue.workload(mark.workload)
        asked = settings.workloads
        selected = workload.name in asked or (ALL in asked and workload.in_all)
        if not (selected if asked else workload.default or named):
            return ()
        cases = matrix(
            self.catalogue,
            methods=mark.methods or settings.methods or workload.methods,
            tasks=mark.tasks or settings.tasks or workload.tasks,
            batch_sizes=mark.batch_sizes or settings.batch_sizes or workload.batch_sizes,
        )
        return tuple(workload.expand(cases, settings))

    @warnings_only()
    def open(self, planned: Sequence[tuple[str, Case]], *, measuring: bool) -> None:
        """Check everything that needs torch, before any model is built, and open the journal for measuring.

        Args:
            planned: Workload and case of each item.
            measuring: Whether cases are measured. Otherwise each case runs one round.

        Raises:
            UserError: device, model, data or journal cannot be used.
        """
        import torch

        from peftbench.records.journal import Journal
        from peftbench.records.scratch import sweep
        from peftbench.run.runner import Runner
        from peftbench.workloads.backend import Backend

        sweep()
        tasks = dict.fromkeys(task for _, case in planned for task in case.tasks)
        self._backend = Backend.open(self.settings, self.catalogue, [self.catalogue.task(name) for name in tasks])
        self._studies = self._check(planned)
        self._threads = torch.get_num_threads()
        torch.set_num_threads(self.settings.threads)
        self._runner = Runner(self._backend, session=self.name)
        if measuring:
            journal = self._assignment.journal if self._assignment else self.work / "journal.jsonl"
            self._journal = Journal(journal, self.identity(), resume=self.settings.resume)
            self._tell_of_broken(self._journal)
            finished = self._journal.finished
            self._resumed = frozenset(finished).intersection(self._ids.values())
            self._records.update({key: found for key, found in finished.items() if key in self._resumed})

    def _tell_of_broken(self, journal: Journal) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if journal.broken and reporter is not None:
            lines = ", ".join(map(str, journal.broken))
            reporter.ensure_newline()
            reporter.write_line(f"peftbench: lines of the journal cannot be read, and are measured again: {lines}")

    def own_work(self) -> None:
        """Own the folder of the journal and of launches until the session is closed.

        Raises:
            UserError: another run owns the folder, or it cannot be made.
        """
        self._owned.enter_context(owned(self.work))

    def _check(self, planned: Sequence[tuple[str, Case]]) -> bool:
        """Raise UserError for cases that cannot be measured; return whether settings of studies change a number."""
        asked = {name: [case for own, case in planned if own == name] for name, _ in planned}
        benchmarks = {name: self.catalogue.workload(name) for name in asked}
        for name, benchmark in benchmarks.items():
            benchmark.check(self.backend, asked[name])
        return any(benchmark.study_settings for benchmark in benchmarks.values())

    @property
    def backend(self) -> Backend:
        """Device, model and data of the run."""
        if self._backend is None:
            raise RuntimeError("the backend is opened when collection has finished")
        return self._backend

    @property
    def runner(self) -> Runner:
        """The runner, which measures cases."""
        if self._runner is None:
            raise RuntimeError("the runner is opened when collection has finished")
        return self._runner

    def id_of(self, item: pytest.Item) -> str:
        """Return the id in records of an item's case."""
        return self._ids[item.nodeid]

    def add(self, record: Record) -> Record:
        """Keep a finished record and write it to the journal; return the record as it will be read back.

        Raises:
            UserError: the journal cannot be written.
        """
        from peftbench.devices.environment import resident_bytes
        from peftbench.records.journal import readable

        record = readable(record)
        self._records[record.id] = record
        if self._journal is not None:
            self._journal.append(record)
        self._resident_bytes.append(resident_bytes())
        return record

    def identity(self) -> dict[str, Mapping[str, Any]]:
        """Return settings and fingerprint, which comparable records share, as JSON types."""
        backend = self.backend
        settings = {
            **self.settings.identity(studies=self._studies),
            "model": backend.model.name,
            "device": backend.device.type,
        }
        return {"settings": settings, "fingerprint": self.runner.fingerprint()}

    def run(self) -> Run:
        """Return the records so far as a run, whether they were taken here or in child processes."""
        if self._outcome is not None and self._outcome.run is not None:
            run = self._outcome.run
            duration_s = time.perf_counter() - self._started_s
            return replace(run, notes={**run.notes, **self._notes, "duration_s": duration_s})
        from peftbench.records.record import Run

        return Run(records=tuple(self.records.values()), notes=self.notes(), **self.identity())

    def notes(self) -> dict[str, Any]:
        """Return the notes of the run: its seconds, also by pass and without resumed cases, its memory and the load."""
        from peftbench.devices.environment import noise

        passes: dict[str, float] = {}
        added = (record for name, record in self.records.items() if name not in self.resumed)
        for name, seconds in chain.from_iterable(record.passes_s.items() for record in added):
            passes[name] = passes.get(name, 0.0) + seconds
        return {
            **({"resumed": len(self.resumed)} if self.resumed else {}),
            "duration_s": time.perf_counter() - self._started_s,
            "passes_s": passes,
            "resident_bytes": self._resident_bytes[:1] + self._resident_bytes[-1:],
            "random_weights": self.backend.model.random_weights,
            "noise": noise(),
            **self._notes,
        }

    def release(self) -> None:
        """Release what the cases of the present group share."""
        if self._runner is not None:
            self._runner.release()

    def close(self) -> None:
        """Release the resources of the session, and restore torch's number of threads."""
        if self._runner is not None:
            self._runner.close()
        if self._journal is not None:
            self._journal.close()
        self._owned.close()
        if self._threads is not None:
            import torch

            torch.set_num_threads(self._threads)


def _flat(found: Iterable[Iterable[T]]) -> Iterator[T]:
    for definitions in found:
        yield from definitions
