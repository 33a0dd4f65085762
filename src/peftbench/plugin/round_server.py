"""The child's half of lock-step. It runs the tests and rounds that the parent asks for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftbench.measure.time.rounds import Rounds
from peftbench.processes.lockstep.channel import ONLY_TIME, PROTOCOL, Channel, PeerLostError
from peftbench.processes.lockstep.sources import place
from peftbench.records.record import record_to_json

if TYPE_CHECKING:
    import pytest

    from peftbench.measure.time.clock import Timing
    from peftbench.measure.time.rounds import RoundPlan, TimedRound
    from peftbench.plugin.session import BenchSession


class RoundServer:
    """Answers the requests of a parent."""

    def __init__(self, channel: Channel, *, avoid: str = "", worktree: str = "") -> None:
        """Keep the arguments.

        Args:
            channel: Connection to the parent.
            avoid: Folder of the other state's sources, from which nothing may be imported.
            worktree: Folder of this state's own sources.
        """
        self._channel = channel
        self._avoid = Path(avoid) if avoid else None
        self._worktree = Path(worktree) if worktree else None
        self._cleared: set[str] = set()
        """Files of modules that may be imported."""
        self._rounds: Rounds | None = None
        """Rounds of the present case."""

    def serve(self, session: pytest.Session, bench: BenchSession) -> None:
        """Run each test that the parent asks for, until the parent closes the connection."""
        items = {item.nodeid: item for item in session.items}
        try:
            identity = bench.identity() if items else {"settings": {}, "fingerprint": {}}
            self._channel.send({"protocol": PROTOCOL, "knows": [ONLY_TIME], "nodes": list(items), **identity})
            while True:
                request = self._channel.receive()
                item = items[request["node"]]
                if request.get(ONLY_TIME):
                    bench.know(item.nodeid)
                self._rounds = None
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
                record = bench.records.get(bench.id_of(item))
                self._channel.send({"record": record and record_to_json(record), "stray": self._stray()})
        except PeerLostError:
            return

    def take(self, case: TimedRound, reference: TimedRound | None, plan: RoundPlan, *, seed: str) -> Rounds:
        """Run rounds as the parent asks for them. This replaces `interleave`.

        A second call, after a GPU was slowed down, returns the same rounds, because those of the other state are over.
        """
        del reference, seed  # the parent pairs and orders the rounds
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
        """Return a module that was imported from the other state's sources, or ''."""
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
