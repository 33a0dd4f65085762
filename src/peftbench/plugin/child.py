"""The plugin of a child, a pytest run that a parent started. It is registered in children only."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import pytest

from peftbench.plugin import collection
from peftbench.processes.launches.orphan import end_with_parent, is_orphan

if TYPE_CHECKING:
    from peftbench.plugin.session import BenchSession
    from peftbench.processes.launches.assignment import Assignment


def whole_files(config: pytest.Config) -> list[str]:
    """Return the existing files and folders among pytest's arguments, without names of tests in them."""
    if config.option.pyargs:
        return config.args
    files = dict.fromkeys(argument.partition("::")[0] for argument in config.args)
    return [file for file in files if (config.invocation_params.dir / file).exists()]


def divide(items: Sequence[pytest.Item], nodes: Collection[str]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Return the items whose node ids are in `nodes`, and the other items."""
    own = set(nodes)
    return [item for item in items if item.nodeid in own], [item for item in items if item.nodeid not in own]


class Child:
    """Runs the cases of an assignment."""

    def __init__(self, bench: BenchSession, assignment: Assignment) -> None:
        self._bench = bench
        self._assignment = assignment
        self._parent = assignment.parent or os.getppid()
        end_with_parent(self._parent)
        self.pytest_runtest_setup()  # the parent may have died already

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Exit if the parent has died and the system has not killed this process."""
        if is_orphan(self._parent):
            pytest.exit("the run that started this launch is gone")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> None:
        """In lock-step, collect whole files, because this state of the code may lack a test that is named.

        A test that only the new state has gets the verdict `new`.
        """
        if self._assignment.socket is not None:
            session.config.args[:] = whole_files(session.config)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect items that are not assigned."""
        items[:], others = divide(items, self._assignment.nodes)
        if others:
            config.hook.pytest_deselected(items=others)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """In lock-step, run the items that the parent asks for; else let pytest run all items."""
        if self._assignment.socket is None or not collection.goes_on(session):
            return None
        from peftbench.plugin.round_server import RoundServer
        from peftbench.processes.lockstep.channel import Channel

        channel = Channel.of_descriptor(self._assignment.socket)
        server = RoundServer(channel, avoid=self._assignment.avoid, worktree=self._assignment.worktree)
        if session.items:
            self._bench.runner.take_rounds_by(server.take, beside=1)
        server.serve(session, self._bench)
        channel.close()
        return True
