"""The plugin that runs one shard of the cases. It is registered only under --peftbench-shard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from peftbench.plugin.collection import case_of
from peftbench.records.shards import NOTE, own_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peftbench.plugin.session import BenchSession


class Sharding:
    """Deselects the cases of other shards, and notes those of this shard, so that a merge can report missing cases."""

    def __init__(self, bench: BenchSession, part: int, parts: int) -> None:
        self._bench = bench
        self._part = part
        self._parts = parts
        self._all = 0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the cases of this shard. Items that are no cases run in the first shard."""
        cases = {item: case.group for item in items if (case := case_of(item))}
        self._all = len(cases)
        ordered, groups = list(cases), list(cases.values())
        own = {ordered[place] for place in own_part(groups, self._part, self._parts)}
        if self._part == 1:
            own |= set(items) - set(cases)
        others = [item for item in items if item not in own]
        items[:] = [item for item in items if item in own]
        if others:
            config.hook.pytest_deselected(items=others)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note the cases that this shard should hold."""
        planned = [
            self._bench.id_of(item) for item in session.items if item.nodeid in self._bench.ids and case_of(item)
        ]
        note = {"part": self._part, "parts": self._parts, "cases": self._all, "planned": planned}
        self._bench.note(NOTE, note)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Set the exit status of a shard without cases to OK, since CI takes any other status for a failure."""
        if self._all and not session.items and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK

    def pytest_report_collectionfinish(self, items: Sequence[pytest.Item]) -> str:
        """Return a line with the number of cases of this shard."""
        count = sum(case_of(item) is not None for item in items)
        return f"peftbench: part {self._part} of {self._parts}: {count} of {self._all} cases"
