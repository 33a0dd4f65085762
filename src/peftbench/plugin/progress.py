"""Shows the progress of a run: one changing line on a terminal, elsewhere (and in CI) a line after each group."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING, Any, Final

from peftbench.plugin.collection import case_of
from peftbench.plugin.screen import shown, write_line
from peftbench.report.numbers import milliseconds
from peftbench.text import on_terminal

if TYPE_CHECKING:
    import pytest

    from peftbench.plugin.session import BenchSession
    from peftbench.records.record import Record

MINUTE_S: Final = 60
LONG_S: Final = 90
"""Shortest estimate that is given in minutes, in seconds."""
LEAST_CASES: Final = 3
"""Fewest finished cases from which the uncertainty of the time left is estimated."""


class Progress:
    """A pytest plugin that writes between cases and between the passes of a case, and never during a round."""

    def __init__(self, reporter: pytest.TerminalReporter, items: list[pytest.Item], bench: BenchSession) -> None:
        """Keep the arguments.

        Args:
            reporter: Pytest's reporter.
            items: All items of the run.
            bench: The session, which is open.
        """
        self._reporter = reporter
        self._bench = bench
        self._groups = {item.nodeid: case.group for item in items if (case := case_of(item))}
        self._last_of_groups = frozenset({group: nodeid for nodeid, group in self._groups.items()}.values())
        self._left = {node for node in self._groups if bench.ids[node] not in bench.resumed}
        """Cases that are still to be measured. A case that the resumed run had finished takes no time."""
        self._done = 0
        self._took_s: list[float] = []
        self._started_s = time.monotonic()
        self._current = ""
        self._changing = reporter.isatty and reporter.verbosity <= 0 and not in_ci(os.environ)
        if self._changing:
            bench.runner.tell_passes(self._in_pass)

    def pytest_report_teststatus(self, report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
        """Suppress the dot of a measured case if there is a changing line."""
        if self._changing and report.when == "call" and report.passed and report.nodeid in self._groups:
            return "passed", "", ""
        return None

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Remember when a case begins."""
        self._current = nodeid if nodeid in self._groups else ""
        self._started_s = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Write the progress. In this hook, unlike in a teardown, output is not captured."""
        if nodeid not in self._groups or self._reporter.verbosity < 0:
            return
        self._done += 1
        if nodeid in self._left:
            self._left.discard(nodeid)
            self._took_s.append(time.monotonic() - self._started_s)
        if self._changing:
            self._rewrite(self._groups[nodeid])
        elif nodeid in self._last_of_groups:
            group = self._groups[nodeid]
            write_line(self._reporter, f"peftbench: {self._line(group)}")

    def _in_pass(self, name: str) -> None:
        """Write which pass of the current case begins. Pytest captures what a test prints, and lets this through."""
        if self._current:
            capture = self._reporter.config.pluginmanager.get_plugin("capturemanager")
            through: AbstractContextManager[Any] = capture.global_and_fixture_disabled() if capture else nullcontext()
            with through:
                self._rewrite(self._groups[self._current], f"{self._current.rpartition('::')[2]}: {name}")

    def _line(self, group: str, *now: str) -> str:
        counted = describe(self._done, len(self._groups), time_left(self._took_s, len(self._left)))
        return on_terminal("; ".join(filter(None, [counted, *now, medians(self._bench.records.values(), group)])))

    def _rewrite(self, group: str, *now: str) -> None:
        from rich.cells import set_cell_size

        line = shown(self._reporter, self._line(group, *now))
        width = self._reporter.config.get_terminal_writer().fullwidth - 1
        self._reporter.rewrite(set_cell_size(line, width).rstrip(), erase=True)


def in_ci(environment: Mapping[str, str]) -> bool:
    """Tell whether a variable of the environment says that this is a job of CI, whose log is read later."""
    return environment.get("CI", "").lower() not in ("", "0", "false")


def time_left(took_s: Sequence[float], left: int) -> tuple[float, float, float] | None:
    """Return the time of the cases that are left, and the ends of its 95 % prediction interval, in seconds.

    The finished cases are taken for a sample of all cases. Both ends are infinite with less than `LEAST_CASES` of them.

    Args:
        took_s: The time of each finished case.
        left: Number of cases that are left.

    Returns:
        None if no case is finished.
    """
    if not took_s:
        return None
    middle = fmean(took_s) * left
    if len(took_s) < LEAST_CASES:
        return middle, -math.inf, math.inf
    half = student(len(took_s) - 1) * stdev(took_s) * math.sqrt(left + left**2 / len(took_s))
    return middle, max(middle - half, 0.0), middle + half


def student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t by Fisher's expansion, which needs no import of scipy."""
    z = NormalDist().inv_cdf(0.975)
    terms = (z, (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return math.fsum(term / freedom**power for power, term in enumerate(terms))


def describe(done: int, total: int, left_s: tuple[float, float, float] | None) -> str:
    """Return the number of finished cases and the estimated time of the others, as text.

    Args:
        done: Number of finished cases.
        total: Number of all cases.
        left_s: What `time_left` returned.
    """
    counted = f"{done} of {total} cases"
    if done == total or left_s is None:
        return counted
    middle, low, high = left_s
    unit, seconds = ("min", MINUTE_S) if middle >= LONG_S else ("s", 1)
    about = f"{counted}, about {middle / seconds:.0f} {unit} left"
    if math.isinf(high) or f"{low / seconds:.0f}" == f"{high / seconds:.0f}":
        return about
    return f"{about} ({low / seconds:.0f} to {high / seconds:.0f})"


def medians(records: Iterable[Record], group: str) -> str:
    """Return the fastest and the slowest median of a round for each benchmark of a group, as text."""
    found: dict[str, dict[str, float]] = {}
    for record in records:
        metric = record.metrics.get("time_s") if record.group == group and record.status == "ok" else None
        if metric is not None and metric.value is not None:
            found.setdefault(record.function, {})[record.method] = metric.value
    return f"{group}: {', '.join(_span(name, times_s) for name, times_s in found.items())}" if found else ""


def _span(name: str, times_s: Mapping[str, float]) -> str:
    fast, slow = min(times_s, key=lambda one: times_s[one]), max(times_s, key=lambda one: times_s[one])
    if fast == slow:
        return f"{name} {milliseconds(times_s[fast])} ms ({fast})"
    return f"{name} {milliseconds(times_s[fast])} ({fast}) to {milliseconds(times_s[slow])} ms ({slow})"
