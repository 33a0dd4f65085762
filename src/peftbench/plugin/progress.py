"""How far a run is, and how long it will take: one line that changes on a terminal, a line a group elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from peftbench.plugin.collection import case_of
from peftbench.text import on_terminal

if TYPE_CHECKING:
    import pytest

MINUTE_S: Final = 60
LONG_S: Final = 90
"""From here on an estimate is given in minutes."""


class Progress:
    """A pytest plugin that speaks between cases, never within a round."""

    def __init__(self, reporter: pytest.TerminalReporter, items: list[pytest.Item]) -> None:
        self._reporter = reporter
        self._groups = {item.nodeid: case.group for item in items if (case := case_of(item))}
        self._last_of_groups = frozenset({group: nodeid for nodeid, group in self._groups.items()}.values())
        self._done = 0
        self._started_s = time.monotonic()
        self._changing = reporter.isatty and reporter.verbosity <= 0

    def pytest_report_teststatus(self, report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
        """Print no dot for a measured case where the changing line says more."""
        if self._changing and report.when == "call" and report.passed and report.nodeid in self._groups:
            return "passed", "", ""
        return None

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Say how far the run is; here, unlike in a teardown, nothing is captured."""
        if nodeid not in self._groups or self._reporter.verbosity < 0:
            return
        self._done += 1
        line = describe(self._done, len(self._groups), time.monotonic() - self._started_s)
        if self._changing:
            self._reporter.rewrite(f"{line}; last: {on_terminal(nodeid.rpartition('::')[2])}", erase=True)
        elif nodeid in self._last_of_groups:
            self._reporter.ensure_newline()
            self._reporter.write_line(f"peftbench: {line}")


def describe(done: int, total: int, elapsed_s: float) -> str:
    """Return how many cases are done, and how long the others will take if they take as long."""
    left_s = elapsed_s / done * (total - done)
    if done == total:
        return f"{done} of {total} cases"
    amount = f"{left_s / MINUTE_S:.0f} min" if left_s >= LONG_S else f"{left_s:.0f} s"
    return f"{done} of {total} cases, about {amount} left"
