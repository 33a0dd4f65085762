"""The child's half: runs the tests that the parent names, and their rounds when it says so."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftbench.measure.time.rounds import Rounds
from peftbench.processes.lockstep.channel import PROTOCOL, Channel, PeerLostError
from peftbench.processes.lockstep.sources import place
from peftbench.records.record import record_to_json

if TYPE_CHECKING:
    import pytest

    from peftbench.measure.time.clock import Timing
    from peftbench.measure.time.rounds import RoundPlan, TimedRound
    from peftbench.plugin.session import BenchSession


class RoundServer:
    """Answers a parent until it hangs up."""

    def __init__(self, channel: Channel, *, avoid: str = "", worktree: str = "") -> None:
        """Keep the channel, the folder of the other state, from which nothing may be imported, and that of this one."""
        self._channel = channel
        self._avoid = Path(avoid) if avoid else None
        self._worktree = Path(worktree) if worktree else None
        self._cleared: set[str] = set()
        """Files of modules that may be imported."""
        self._rounds: Rounds | None = None
        """Of the present case."""

    def serve(self, session: pytest.Session, bench: BenchSession) -> None:
        """Run each test that is asked for, until the parent hangs up."""
        items = {item.nodeid: item for item in session.items}
        try:
            identity = bench.identity() if items else {"settings": {}, "fingerprint": {}}
            self._channel.send({"protocol": PROTOCOL, "nodes": list(items), **identity})
            while True:
                item = items[self._channel.receive()["node"]]
                self._rounds = None
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
                record = bench.records.get(bench.id_of(item))
                self._channel.send({"record": record and record_to_json(record), "stray": self._stray()})
        except PeerLostError:
            return

    def take(self, case: TimedRound, reference: TimedRound | None, plan: RoundPlan, *, seed: str) -> Rounds:
        """Run rounds when the parent says so, until it has enough: stands in for `interleave`.

        Asked again, because a GPU was slowed down meanwhile, it has no others: the other state's rounds are over.
        """
        del reference, seed  # the parent pairs rounds, and orders them
        if self._rounds is not None:
            return self._rounds
        timed: list[Timing] = []
        self._channel.send({"ready": {"budget_s": plan.budget_s, "exactly": plan.exactly}})
        while (request := self._channel.receive())["do"] == "round":
            timing = case(request["number"])
            timed.append(timing)
            self._channel.send({"wall_s": timing.wall_s, "device_s": timing.device_s})
        self._rounds = Rounds(case=tuple(timed), reference=(), stop="rounds")
        return self._rounds

    def _stray(self) -> str:
        """Return a module of the other state that was imported here all the same, or ''."""
        if self._avoid is None:
            return ""
        for name, module in sorted(sys.modules.items()):
            file: Any = getattr(module, "__file__", None)
            if not isinstance(file, str) or file in self._cleared:
                continue
            if place(file, self._avoid, self._worktree) is not None:
                return f"{name} ({file})"
            self._cleared.add(file)
        return ""
