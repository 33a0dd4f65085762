"""One pair of processes, one a state of the code: the parent's half of the rounds in turn."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peftbench.errors import UserError
from peftbench.measure.time.clock import Timing
from peftbench.measure.time.rounds import RoundPlan, Rounds, interleave
from peftbench.processes.launches.assignment import OPTION, Assignment
from peftbench.processes.launches.launcher import Target
from peftbench.processes.launches.process import Command, deadline, describe, started
from peftbench.processes.lockstep.channel import PROTOCOL, Channel, PeerLostError
from peftbench.records.record import Record, record_from_json


@dataclass(frozen=True, kw_only=True)
class State:
    """A state of the code, and how a pytest run of it is started."""

    name: str
    """For people: a revision, requirements, or `this checkout`."""
    command: Command
    avoid: str = ""
    """Folder of the other state's sources: a process that imports from it does not run this state."""
    worktree: str = ""
    """Folder of its own sources, where that is not `command`'s checkout."""


@dataclass(frozen=True, slots=True)
class PairedCase:
    """What one pair yielded of one case."""

    id: str
    base: Record | None
    """None where the state does not have the case."""
    new: Record | None
    rounds: Rounds | None
    """Of the new state, those of the base being the reference; None where a side has none."""


class CaseLostError(Exception):
    """A case failed in a round; the process goes on."""

    def __init__(self, side: Side, record: Record | None) -> None:
        super().__init__()
        self.side = side
        self.record = record


class Side:
    """One process of a pair."""

    def __init__(self, state: State, channel: Channel) -> None:
        self._state = state
        self._channel = channel
        self._asked = False
        self.nodes: frozenset[str] = frozenset()
        self.fingerprint: Mapping[str, str] = {}
        self.settings: Mapping[str, Any] = {}

    def greet(self) -> None:
        """Wait until the process has collected; raises UserError if it does not understand us."""
        hello = self._channel.receive()
        if hello.get("protocol") != PROTOCOL:
            raise UserError(f"{self._state.name}: its peftbench speaks another protocol; take a later revision")
        self.nodes = frozenset(hello["nodes"])
        self.fingerprint, self.settings = hello["fingerprint"], hello["settings"]

    def begin(self, node: str) -> None:
        """Ask for a case, and do not wait."""
        self._asked = node in self.nodes
        if self._asked:
            self._channel.send({"do": "case", "node": node})

    def ready(self) -> RoundPlan | Record | None:
        """Wait until the case is warm; return its plan, or the record that says why there are no rounds."""
        if not self._asked:
            return None
        answer = self._channel.receive()
        return RoundPlan(**answer["ready"]) if "ready" in answer else self._record(answer)

    def round(self, number: int) -> Timing:
        """Run one round; raises CaseLostError if the case failed in it."""
        answer = self._channel.ask({"do": "round", "number": number})
        if "record" in answer:
            raise CaseLostError(self, self._record(answer))
        return Timing(answer["wall_s"], device_s=answer["device_s"])

    def finish(self) -> Record | None:
        """End the rounds of a case."""
        return self._record(self._channel.ask({"do": "done"}))

    def _record(self, answer: Mapping[str, Any]) -> Record | None:
        if answer["stray"]:
            raise UserError(
                f"{self._state.name}: its process imported {answer['stray']} from this checkout, so that the two "
                "would not have been compared; keep sources in src/, or install the project"
            )
        found = answer["record"]
        return record_from_json(found, f"{self._state.name}: ") if found else None


@contextmanager
def running(state: State, assignment: Assignment) -> Iterator[Side]:
    """Start a process of a state; it has ended when the context has.

    Raises:
        UserError: it refused what it was asked for.
        PeerLostError: it died; says how.
    """
    ours, theirs = socket.socketpair()
    log = Path(assignment.folder) / "log.txt"
    with ExitStack() as stack:
        stack.enter_context(ours)
        with theirs:
            path = replace(assignment, socket=theirs.fileno(), avoid=state.avoid, worktree=state.worktree).write()
            command, files = state.command, [theirs.fileno()]
            process = stack.enter_context(started(command, log, more=[f"{OPTION}={path}"], files=files))
        expired = stack.enter_context(deadline(process, command.timeout_s))
        channel = Channel(ours)
        stack.callback(channel.close)  # whereupon the process ends, if it has not
        try:
            yield Side(state, channel)
        except PeerLostError as error:
            if error.channel is not channel:
                raise
            process.wait()
            late = f"took longer than {command.timeout_s:g} s and was killed" if expired.is_set() else ""
            problem = late or _described(process.returncode, log, state) or "ended too early"
            raise PeerLostError(channel, f"{state.name} {problem}; its output: {log}") from None


def _described(status: int, log: Path, state: State) -> str:
    try:
        return describe(status, log)
    except UserError as error:
        raise UserError(f"{state.name}: {error}") from error


def run_pair(base: Side, new: Side, cases: Sequence[Target], *, seed: str) -> Iterator[PairedCase]:
    """Run the rounds of each case in turn, in an order that is drawn anew for each round.

    Raises:
        UserError: a process runs the wrong code.
        PeerLostError: a process died; the cases before it are done.
    """
    for side in (base, new):
        side.greet()
    for case in cases:
        for side in (base, new):
            side.begin(case.node)
        yield _pair_up(base, new, case.id, seed=f"{seed} {case.id}")


def _pair_up(base: Side, new: Side, case_id: str, *, seed: str) -> PairedCase:
    states = {side: side.ready() for side in (base, new)}
    plans = [state for state in states.values() if isinstance(state, RoundPlan)]
    rounds = None
    try:
        if len(plans) == len(states):
            rounds = interleave(new.round, base.round, plans[0], seed=seed)
        else:
            for side, state in states.items():
                if isinstance(state, RoundPlan):
                    side.round(0)  # alone, since a record needs one
    except CaseLostError as lost:
        states[lost.side] = lost.record
    records = {side: side.finish() if isinstance(state, RoundPlan) else state for side, state in states.items()}
    # A child collects whole files, and may have to tell tests of one name apart that its parent need not.
    named = {side: record and replace(record, id=case_id) for side, record in records.items()}
    return PairedCase(case_id, named[base], named[new], rounds)
