"""What a parent and its children do at each step of a pytest run: registered only where a run has launches."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from peftbench import collection
from peftbench.errors import UserError
from peftbench.launches import child
from peftbench.options import flag_name
from peftbench.report.page import write, write_line
from peftbench.session import LAUNCHING, told_at_the_end, usage_errors
from peftbench.text import on_terminal

if TYPE_CHECKING:
    from collections.abc import Generator

    from peftbench.launches.assignment import Assignment
    from peftbench.session import BenchSession


class Child:
    """Runs the cases that it was assigned."""

    def __init__(self, bench: BenchSession, assignment: Assignment) -> None:
        self._bench = bench
        self._assignment = assignment
        self._parent = os.getppid()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Stop where the parent has died: nobody waits for the rest, and it would disturb whatever runs next."""
        if os.getppid() != self._parent:
            pytest.exit("the run that started this launch is gone")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> None:
        """In lock-step, collect what there is: another state of the code may lack what is named, which is then new."""
        if self._assignment.socket is not None:
            session.config.args[:] = child.whole_files(session.config)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what is not its own."""
        items[:], others = child.divide(items, self._assignment.nodes)
        if others:
            config.hook.pytest_deselected(items=others)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Run items as a parent in lock-step asks for them; else let pytest run all."""
        if self._assignment.socket is None or not collection.goes_on(session):
            return None
        from peftbench.lockstep.channel import Channel
        from peftbench.lockstep.child import Server

        channel = Channel.of_descriptor(self._assignment.socket)
        server = Server(channel, avoid=self._assignment.avoid, worktree=self._assignment.worktree)
        if session.items:
            self._bench.runner.take = server.take
        server.serve(session, self._bench)
        channel.close()
        return True


class Parent:
    """Has the cases run in fresh processes, and shows what came of them as if it had run them itself."""

    def __init__(self, bench: BenchSession) -> None:
        self._bench = bench

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Refuse a command line that asks for launches and for none: a gate that compares nothing would pass."""
        config = session.config
        asked = [flag_name(name) for name in LAUNCHING if config.getoption(f"peftbench_{name}")]
        with usage_errors():
            if asked and not config.option.collectonly and not collection.measures(config):
                raise UserError(
                    f"{asked[0]} measures, which --benchmark-disable, --benchmark-skip or pytest-xdist's -n switches "
                    "off: leave one of them out"
                )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Launch before the items run; afterwards report the failures that are no item's."""
        bench = self._bench
        cases = [item for item in session.items if collection.case_of(item)]
        if cases and collection.goes_on(session) and collection.measures(session.config):
            from peftbench.launches import parent

            with usage_errors():
                bench.outcome = parent.conduct(session.config, bench, cases)
            bench.records.update(bench.outcome.records)
        result = yield
        if bench.outcome is not None:
            for name, message in bench.outcome.stray_failures(bench.told):
                _report_failure(session, name, message)
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        """Print the verdict below the table, or what to do with recorded launches."""
        outcome, run_file = self._bench.outcome, self._bench.run_file
        if outcome is not None and outcome.judgement is not None:
            from peftbench.launches import display

            width, color = config.get_terminal_writer().fullwidth, terminalreporter.hasmarkup
            terminalreporter.section("peftbench gate")
            write(terminalreporter, display.terminal(outcome.judgement, width=width, color=color))
        elif self._bench.settings.record and self._bench.records and run_file:
            from peftbench.launches import parent

            command = parent.accept_command(config, self._bench.settings, run_file)
            write_line(terminalreporter, f"make it the baseline: {on_terminal(command)}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the comparison to where it was asked for, and where CI shows it; the run itself comes first."""
        outcome = self._bench.outcome
        if outcome is not None and outcome.judgement is not None:
            from peftbench.launches import display

            with told_at_the_end(session):
                display.write(outcome.judgement, self._bench.settings)


def _report_failure(session: pytest.Session, name: str, message: str) -> None:
    """Count a failure that belongs to no item; it is in the short summary, in JUnit's file and in the exit status."""
    name = on_terminal(name)
    report = pytest.TestReport(
        nodeid=f"peftbench::{name}",
        location=("peftbench", None, name),
        keywords={},
        outcome="failed",
        longrepr=on_terminal(message),
        when="call",
    )
    session.config.hook.pytest_runtest_logreport(report=report)
