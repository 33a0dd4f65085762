r"""How a parent and a child in lock-step talk: one JSON object a line, a request and its answer, over a socket.

    parent                                      child
                                                {"protocol": 1, "nodes": [...], ...}     when it is ready
    {"do": "case", "node": "..."}               {"ready": {"budget_s": 0.9, ...}}        built and warm
    {"do": "round", "number": 0}                {"wall_s": 0.0123, ...}
    {"do": "done"}                              {"record": {...}}                        also instead of "ready"

Both block while they wait; a peer that dies is the end of the stream.
"""

from __future__ import annotations

import json
import socket
from typing import Any, Final, Self

PROTOCOL: Final = 1
"""Rises when a child of an older revision would not understand."""


class PeerLostError(Exception):
    """The process at the other end has ended."""

    def __init__(self, channel: Channel, problem: str = "") -> None:
        super().__init__(problem)
        self.channel = channel


class Channel:
    """One end of the line."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = connection.makefile("r", encoding="utf-8", newline="\n")

    @classmethod
    def of_descriptor(cls, descriptor: int) -> Self:
        """Open the end that a parent left in this process."""
        return cls(socket.socket(fileno=descriptor))

    def send(self, message: dict[str, Any]) -> None:
        """Write one message; raises PeerLostError if nobody is there to read it."""
        try:
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise PeerLostError(self) from error

    def receive(self) -> dict[str, Any]:
        """Wait for the next message; raises PeerLostError if there will be none."""
        try:
            line = self._reader.readline()
        except OSError as error:
            raise PeerLostError(self) from error
        if not line.endswith("\n"):
            raise PeerLostError(self)
        message: dict[str, Any] = json.loads(line)
        return message

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        self.send(message)
        return self.receive()

    def close(self) -> None:
        """Hang up."""
        self._reader.close()
        self._connection.close()
