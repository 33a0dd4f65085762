"""What a parent and its children do at each step of a pytest run: registered only where a run has launches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from peftbench import collection
from peftbench.launches import child
from peftbench.session import usage_errors

if TYPE_CHECKING:
    from collections.abc import Generator

    from peftbench.launches.assignment import Assignment
    from peftbench.session import BenchSession


class Child:
    """Runs the cases that it was assigned."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what is not its own."""
        items[:], others = child.divide(items, self._assignment.nodes)
        if others:
            config.hook.pytest_deselected(items=others)


class Parent:
    """Has the cases run in fresh processes, and shows what came of them as if it had run them itself."""

    def __init__(self, bench: BenchSession) -> None:
        self._bench = bench

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Launch before the items run; afterwards report the failures that are no item's."""
        bench = self._bench
        cases = [item for item in session.items if collection.case_of(item)]
        if cases and not session.testsfailed and collection.measures(session.config):
            from peftbench.launches import parent

            with usage_errors():
                bench.outcome = parent.conduct(session.config, bench, cases)
            bench.records.update(bench.outcome.records)
        result = yield
        if bench.outcome is not None:
            for name, message in bench.outcome.stray_failures(set(bench.ids.values())):
                _report_failure(session, name, message)
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        """Print the verdict below the table."""
        if self._bench.outcome and self._bench.outcome.judgement:
            from peftbench.launches import display

            terminalreporter.section("peftbench gate")
            width = config.get_terminal_writer().fullwidth
            terminalreporter.write(display.terminal(self._bench.outcome.judgement, width, terminalreporter.hasmarkup))

    def pytest_sessionfinish(self) -> None:
        """Write the files that were asked for, and what CI shows."""
        if self._bench.outcome is not None:
            from peftbench.launches import display

            display.write(self._bench.outcome, self._bench.settings)


def _report_failure(session: pytest.Session, name: str, message: str) -> None:
    """Count a failure that belongs to no item; it is in the short summary, in JUnit's file and in the exit status."""
    report = pytest.TestReport(
        nodeid=f"peftbench::{name}",
        location=("peftbench", None, name),
        keywords={},
        outcome="failed",
        longrepr=message,
        when="call",
    )
    session.config.hook.pytest_runtest_logreport(report=report)
