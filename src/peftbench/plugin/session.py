"""The state of one pytest session: options become cases, cases become records, records become files."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import pytest

from peftbench.config.settings import Settings
from peftbench.libraries import warnings_only
from peftbench.plugin import asked, assigned
from peftbench.plugin.collection import record_ids

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
        self._in_lockstep = assignment is not None and assignment.socket is not None
        self.name = assignment.session if assignment else f"{datetime.now(UTC):%Y-%m-%d}-{os.urandom(3).hex()}"
        self._started_s = time.perf_counter()
        self._backend: Backend | None = None
        self._runner: Runner | None = None
        self._journal: Journal | None = None
        self._owned = ExitStack()
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
    def _given(self) -> Settings:
        return Settings.read(*self._sources)

    @cached_property
    def settings(self) -> Settings:
        """Settings of the user. In lock-step, names that this state of the code does not know are left out."""
        return asked.known(self._given, self.catalogue) if self._in_lockstep else self._given

    @property
    def delegates(self) -> bool:
        """Whether cases are measured in child processes, and not in this one."""
        return self._assignment is None and self.settings.delegates

    @property
    def run_file(self) -> Path | None:
        """File to which the run is written, or None. A run whose cases run in launches always has one."""
        return self.settings.json or (self.work / "run.json" if self.delegates else None)

    @property
    def work(self) -> Path:
        """The folder of the journal and of launches."""
        return self.settings.work or self._config.rootpath / WORK

    @cached_property
    def catalogue(self) -> Catalogue:
        """What can be benchmarked, with what conftest.py files add."""
        return asked.catalogue_of(self._config, self._given.methods, lenient=self._in_lockstep)

    def check(self) -> None:
        """Refuse names that do not exist, and files that cannot be written, before anything is collected."""
        asked.refuse_impossible(self.settings, self.catalogue)

    def cases(self, mark: CaseMark, *, named: bool = False) -> tuple[Case, ...]:
        """Return the cases of a benchmark function; none if its workload is not selected.

        Args:
            mark: Marker of the function.
            named: Whether the file of the function is named on the command line, and not only a folder around it.
        """
        self.catalogue = asked.with_folders(self.catalogue, mark.methods or ())
        return asked.cases_of(mark, self.settings, self.catalogue, named=named)

    @warnings_only()
    def open(self, planned: Sequence[tuple[str, Case]], *, measuring: bool) -> None:
        """Check everything that needs torch, before any model is built, and open the journal for measuring.

        Args:
            planned: Workload and case of each item.
            measuring: Whether cases are measured. Otherwise each case runs one round.

        Raises:
            UserError: device, model, data, journal or an override cannot be used.
        """
        import torch

        from peftbench.plugin.notes import tell_of_broken
        from peftbench.records.journal import Journal
        from peftbench.records.scratch import sweep
        from peftbench.run.runner import Runner
        from peftbench.workloads.backend import Backend

        sweep()
        for spec in dict.fromkeys(case.method for _, case in planned):
            self.catalogue.method(spec.name).check(dict(spec.overrides))
        tasks = dict.fromkeys(task for _, case in planned for task in case.tasks)
        self._backend = Backend.open(self.settings, self.catalogue, [self.catalogue.task(name) for name in tasks])
        self._studies = self._check(planned)
        self._owned.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(self.settings.threads)
        self._runner = Runner(self._backend, session=self.name)
        if measuring:
            journal = self._assignment.journal if self._assignment else self.work / "journal.jsonl"
            self._journal = Journal(journal, self.identity(), resume=self.settings.resume)
            tell_of_broken(self._config, self._journal)
            finished = asked.unchanged(self._journal.finished, self.catalogue)
            self._resumed = frozenset(finished).intersection(self._ids.values())
            self._records.update({key: found for key, found in finished.items() if key in self._resumed})

    def own_work(self) -> None:
        """Own the folder of the journal and of launches until the session is closed; UserError if another run does."""
        from peftbench.records.workfolder import owned

        self._owned.enter_context(owned(self.work))

    def _check(self, planned: Sequence[tuple[str, Case]]) -> bool:
        """Refuse what cannot be done; return whether the settings of studies change a number."""
        grouped = {name: [case for own, case in planned if own == name] for name, _ in planned}
        for name, cases in grouped.items():
            self.catalogue.workload(name).check(self.backend, cases)
        return any(self.catalogue.workload(name).study_settings for name in grouped)

    @property
    def backend(self) -> Backend:
        """Device, model and data of the run."""
        assert self._backend is not None  # noqa: S101 - opened when collection has finished
        return self._backend

    @property
    def runner(self) -> Runner:
        """What measures cases."""
        assert self._runner is not None  # noqa: S101 - opened when collection has finished
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
        settings = {**self.settings.identity(studies=self._studies), **backend.resolved()}
        return {"settings": settings, "fingerprint": self.runner.fingerprint()}

    def run(self) -> Run:
        """Return the records so far as a run, whether they were taken here or in child processes."""
        if self._outcome is not None and self._outcome.run is not None:
            run = self._outcome.run
            return replace(run, notes={**run.notes, **self._notes, "duration_s": time.perf_counter() - self._started_s})
        from peftbench.records.record import Run

        return Run(records=tuple(self.records.values()), notes=self.notes(), **self.identity())

    def notes(self) -> dict[str, Any]:
        """Return what is to be known of the run as a whole: seconds by pass that it took itself, memory, load."""
        from peftbench.plugin.notes import run_notes

        return {
            **run_notes([record for name, record in self._records.items() if name not in self._resumed]),
            **({"resumed": len(self._resumed)} if self._resumed else {}),
            "duration_s": time.perf_counter() - self._started_s,
            "resident_bytes": self._resident_bytes[:1] + self._resident_bytes[-1:],
            "random_weights": self.backend.model.random_weights,
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
