"""A plugin for tests: cases are "measured" by a function of the project under test, without torch or a model."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from peftbench.devices.environment import versions
from peftbench.measure.metrics import launch
from peftbench.measure.time.clock import Timing
from peftbench.measure.time.rounds import RoundPlan, interleave
from peftbench.plugin.session import BenchSession
from peftbench.records.journal import Journal
from peftbench.records.record import Metric, Record

if TYPE_CHECKING:
    from peftbench.measure.time.rounds import Observer
    from peftbench.records.ids import Case
    from peftbench.run.passes import Take
    from peftbench.workloads.base import Workload

FINGERPRINT = {"cpu": "stand-in", "device": "none", "threads": "1", **versions()}
IDENTITY: dict[str, Any] = {
    "settings": {"model": "stand-in", "dtype": "float32", "data": "none", "reference": "base"},
    "fingerprint": FINGERPRINT,
}
DIE_ONCE = Path("die-once")
"""A file with a method's name: the first process that meets it is killed."""


class StandIn:
    """Measures a case by calling `underlying.work(method)`; counts `underlying.FLOPS`."""

    def __init__(self, session: str) -> None:
        self._take: Take = interleave
        self._session = session
        self._underlying = import_module("underlying")

    def blank(self, case: Case, workload: Workload, id: str) -> Record:  # noqa: A002
        return Record(id, workload.name, str(case.method), case.task, case.batch_size, seq_len=8, status="ok")

    def failed(self, case: Case, benchmark: Workload, error: BaseException, *, id: str) -> Record:  # noqa: A002
        return replace(self.blank(case, benchmark, id), status="failed", reason=str(error))

    def measure(self, case: Case, workload: Workload, *, id: str, observer: Observer, **_: object) -> Record:  # noqa: A002
        method = str(case.method)
        if DIE_ONCE.exists() and DIE_ONCE.read_text() == method:
            DIE_ONCE.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

        def timed(number: int) -> Timing:
            del number
            start = time.perf_counter()
            self._underlying.work(method)
            return Timing(time.perf_counter() - start)

        rounds = self._take(observer(timed), timed, RoundPlan(budget_s=0.1, exactly=5), seed=id)
        flops = Metric(self._underlying.FLOPS, "FLOP")
        times = {"time_s": Metric(rounds.case[0].wall_s, "s", noise="timed")}
        return replace(
            self.blank(case, workload, id),
            metrics={"flops": flops, **times},
            launches=(launch(rounds, session=self._session),),
        )

    def take_rounds_by(self, take: Take, *, beside: int = 0) -> None:
        del beside
        self._take = take

    def release(self) -> None: ...

    def close(self) -> None: ...


def _open(self: BenchSession, tasks: Iterable[str], *, measuring: bool) -> None:
    del tasks, measuring
    assert self._assignment is not None
    self._journal = Journal(self._assignment.journal, self.identity(), resume=self.settings.resume)
    self._records.update(self._journal.finished)
    self._resumed = frozenset(self._journal.finished)
    self._runner = StandIn(self.name)  # type: ignore[assignment]


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main() -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(BenchSession, "open", _open)
    patch.setattr(BenchSession, "identity", lambda _: IDENTITY)
    patch.setattr(BenchSession, "notes", lambda _: {"duration_s": 1.0})
