"""Runs a pair of processes, one of each state of the code. This is the parent's half of lock-step."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence, Set
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
from peftbench.processes.lockstep.channel import ONLY_TIME, PROTOCOL, Channel, PeerLostError
from peftbench.records.record import Record, record_from_json


@dataclass(frozen=True, kw_only=True)
class State:
    """A state of the code, and how pytest is started on it."""

    name: str
    """Name for people: a revision, requirements, or `this checkout`."""
    command: Command
    avoid: str = ""
    """Folder of the other state's sources. A process of this state must not import from it."""
    worktree: str = ""
    """Folder of this state's own sources; empty if it is this checkout."""


@dataclass(frozen=True, slots=True)
class PairedCase:
    """The result of one pair for one case."""

    id: str
    base: Record | None
    """None if the state does not have the case; likewise `new`."""
    new: Record | None
    rounds: Rounds | None
    """Rounds of the new state, with those of the old state as reference; None if a side has none."""


class CaseLostError(Exception):
    """A case failed in a round. Its process goes on."""

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
        self.knows: frozenset[str] = frozenset()
        """Optional parts of the protocol that the process understands."""
        self.fingerprint: Mapping[str, str] = {}
        self.settings: Mapping[str, Any] = {}

    def greet(self) -> None:
        """Wait until the process has collected its cases; raises UserError if it has another protocol."""
        hello = self._channel.receive()
        if hello.get("protocol") != PROTOCOL:
            raise UserError(f"{self._state.name}: its peftbench speaks another protocol; take a later revision")
        self.nodes = frozenset(hello["nodes"])
        self.knows = frozenset(hello.get("knows", ()))
        self.fingerprint, self.settings = hello["fingerprint"], hello["settings"]

    def begin(self, node: str, *, only_time: bool) -> None:
        """Ask for a case, or for its time alone, without waiting for the answer."""
        self._asked = node in self.nodes
        if self._asked:
            self._channel.send({"do": "case", "node": node, "only_time": only_time})

    def ready(self) -> RoundPlan | Record | None:
        """Wait until the case is warm; return its plan, or its record if it has no rounds.

        None if the state does not have the case.
        """
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
    """Start a process of a state. The context waits for its end.

    Raises:
        UserError: the process refused its options.
        PeerLostError: the process died; says how.
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
        stack.callback(channel.close)  # a process that still runs ends then
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


def run_pair(
    base: Side, new: Side, cases: Sequence[Target], *, seed: str, known: Set[str] = frozenset()
) -> Iterator[PairedCase]:
    """Run the rounds of each case in lock-step. The order of the two states is drawn anew for each round.

    Only the time is taken of cases whose ids are in `known`, if both processes can do that. An older revision always
    takes all passes. Then both do, because what a process does before its rounds may change their times.

    Raises:
        UserError: a process runs the wrong code.
        PeerLostError: a process died; the cases before have been yielded.
    """
    for side in (base, new):
        side.greet()
    able = ONLY_TIME in base.knows & new.knows
    for case in cases:
        for side in (base, new):
            side.begin(case.node, only_time=able and case.id in known)
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
                    side.round(0)  # the other side has no rounds, and a record needs one
    except CaseLostError as lost:
        states[lost.side] = lost.record
    records = {side: side.finish() if isinstance(state, RoundPlan) else state for side, state in states.items()}
    # A child collects whole files. It may have to distinguish equal names that its parent did not collect.
    named = {side: record and replace(record, id=case_id) for side, record in records.items()}
    return PairedCase(case_id, named[base], named[new], rounds)
