"""Shows the progress of a run: one changing line on a terminal, elsewhere a line after each group."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from peftbench.plugin.collection import case_of
from peftbench.text import on_terminal

if TYPE_CHECKING:
    import pytest

MINUTE_S: Final = 60
LONG_S: Final = 90
"""Shortest estimate that is given in minutes, in seconds."""


class Progress:
    """A pytest plugin that writes between cases, and never during a round."""

    def __init__(self, reporter: pytest.TerminalReporter, items: list[pytest.Item]) -> None:
        self._reporter = reporter
        self._groups = {item.nodeid: case.group for item in items if (case := case_of(item))}
        self._last_of_groups = frozenset({group: nodeid for nodeid, group in self._groups.items()}.values())
        self._done = 0
        self._started_s = time.monotonic()
        self._changing = reporter.isatty and reporter.verbosity <= 0

    def pytest_report_teststatus(self, report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
        """Suppress the dot of a measured case if there is a changing line."""
        if self._changing and report.when == "call" and report.passed and report.nodeid in self._groups:
            return "passed", "", ""
        return None

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Write the progress. In this hook, unlike in a teardown, output is not captured."""
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
    """Return the number of finished cases and the estimated time of the others, as text.

    Args:
        done: Number of finished cases, at least one.
        total: Number of all cases.
        elapsed_s: Seconds that the finished cases took.
    """
    left_s = elapsed_s / done * (total - done)
    if done == total:
        return f"{done} of {total} cases"
    amount = f"{left_s / MINUTE_S:.0f} min" if left_s >= LONG_S else f"{left_s:.0f} s"
    return f"{done} of {total} cases, about {amount} left"
