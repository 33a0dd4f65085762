"""The plugin of a parent, a pytest run whose cases run in child processes. Its items report the results.

`Parent` is registered only if the run has launches.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from peftbench.config.options import flag_name
from peftbench.config.settings import options
from peftbench.errors import UserError
from peftbench.plugin import assigned, collection
from peftbench.plugin.ending import reported_at_the_end, usage_errors
from peftbench.plugin.screen import write, write_line
from peftbench.plugin.selection import Selection
from peftbench.text import on_terminal

if TYPE_CHECKING:
    from collections.abc import Generator

    from peftbench.config.settings import Settings
    from peftbench.plugin.session import BenchSession
    from peftbench.processes.conduct import LaunchPlan
    from peftbench.processes.launches.launcher import Target
    from peftbench.processes.launches.process import Command

BASELINES: Final = "baselines"
"""Default folder of baselines, relative to pytest's root directory."""


class Parent:
    """Runs the cases in child processes, and reports the results as if it had run the cases itself."""

    def __init__(self, bench: BenchSession) -> None:
        self._bench = bench

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Refuse options for launches together with options that switch off measuring, since such a gate would pass."""
        config = session.config
        given = {name for name, option in options().items() if option.launches}
        asked = [flag_name(name) for name in sorted(given) if config.getoption(f"peftbench_{name}")]
        with usage_errors():
            if asked and not config.option.collectonly and not collection.measures(config):
                raise UserError(
                    f"{asked[0]} measures, which --benchmark-disable, --benchmark-skip or pytest-xdist's -n switches "
                    "off: leave one of them out"
                )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Launch the cases before the items run; afterwards report failures that belong to no item."""
        bench = self._bench
        cases = [item for item in session.items if collection.case_of(item)]
        if cases and collection.goes_on(session) and collection.measures(session.config):
            from peftbench.processes.conduct import conduct

            with usage_errors():
                bench.own_work()
                bench.conclude(conduct(launch_plan(session.config, bench), targets(bench, cases)))
        result = yield
        if bench.outcome is not None:
            for name, message in bench.outcome.stray_failures(bench.failed):
                _report_failure(session, name, message)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, config: pytest.Config
    ) -> Generator[None, object, object]:
        """Print the verdicts below everything else, or the command that accepts recorded launches.

        Only pytest's own list of failures and its last line follow.
        """
        try:
            return (yield)
        finally:
            self._conclude(terminalreporter, config)

    def _conclude(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        outcome, run_file = self._bench.outcome, self._bench.run_file
        if outcome is not None and outcome.judgement is not None:
            from peftbench.report import display

            width, color = config.get_terminal_writer().fullwidth, terminalreporter.hasmarkup
            terminalreporter.section("peftbench gate")
            write(terminalreporter, display.terminal(outcome.judgement, width=width, color=color))
        elif self._bench.settings.record and self._bench.records and run_file:
            command = accept_command(config, self._bench.settings, run_file)
            write_line(terminalreporter, f"make it the baseline: {on_terminal(command)}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the comparison to its file and to the summary of CI. The run is written before."""
        outcome = self._bench.outcome
        if outcome is not None and outcome.judgement is not None:
            from peftbench.report import display

            with reported_at_the_end(session):
                display.write(outcome.judgement, self._bench.settings.diff_json)


def launch_plan(config: pytest.Config, bench: BenchSession) -> LaunchPlan:
    """Return the plan by which the cases of this pytest run are run in child processes."""
    from peftbench.processes.conduct import LaunchPlan

    settings = bench.settings
    return LaunchPlan(
        settings=settings,
        command=pytest_command(config, settings.launch_timeout),
        root=config.rootpath,
        work=bench.work,
        baselines=baselines(config, settings),
        session=bench.name,
        covers=_selection(config, bench).covers,
        say=_teller(config),
    )


def targets(bench: BenchSession, cases: Sequence[pytest.Item]) -> list[Target]:
    """Return the cases of items as targets of a launch."""
    from peftbench.processes.launches.launcher import Target

    return [Target(bench.id_of(item), item.nodeid, case.group) for item in cases if (case := collection.case_of(item))]


def baselines(config: pytest.Config, settings: Settings) -> Path:
    """Return the folder of the baselines that a gate reads."""
    return settings.baseline or config.rootpath / BASELINES


def accept_command(config: pytest.Config, settings: Settings, run_file: Path) -> str:
    """Return the command that makes a run the baseline, to be typed in the folder in which pytest was started."""
    here, folder = config.invocation_params.dir, baselines(config, settings)
    own = (here / folder).resolve() == (here / BASELINES).resolve()  # the default of `accept`
    words = ["peftbench", "accept", str(run_file), *([] if own else [f"--baseline={folder}"])]
    return f'{shlex.join(words)} --why "..."'


def pytest_command(config: pytest.Config, timeout_s: float | None) -> Command:
    """Return the command that starts this pytest run again in a fresh process."""
    from peftbench.processes.launches.process import Command

    parameters = config.invocation_params
    isolated = ["-P"] if not {"", str(Path.cwd())} & set(sys.path) else []  # `pytest` adds no folder, `python -m` does
    return Command(
        arguments=(
            sys.executable,
            *isolated,
            "-m",
            "pytest",
            *assigned.without_parents(map(os.fspath, parameters.args)),
        ),
        folder=parameters.dir,
        timeout_s=timeout_s,
    )


def _teller(config: pytest.Config) -> Callable[[str], None]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return lambda line: None if reporter is None else write_line(reporter, f"peftbench: {on_terminal(line)}")


def _selection(config: pytest.Config, bench: BenchSession) -> Selection:
    deselected = {item.nodeid for item in bench.deselected}
    return Selection.of(
        config,
        bench.settings,
        bench.catalogue,
        run=[id_ for node, id_ in bench.ids.items() if node not in deselected],
        deselected=[id_ for node, id_ in bench.ids.items() if node in deselected],
        dropped=[item.name for item in bench.deselected if not collection.case_of(item)],
    )


def _report_failure(session: pytest.Session, name: str, message: str) -> None:
    """Report a failure that belongs to no item to pytest: in the short summary, JUnit's file and the exit status."""
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
