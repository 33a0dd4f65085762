r"""The protocol between a parent and a child in lock-step: requests and answers over a socket, a JSON object a line.

    parent                                      child
                                                {"protocol": 1, "nodes": [...], ...}     when it is ready
                                                 ... "knows": ["only_time"]              from later revisions
    {"do": "case", "node": "..."}               {"ready": {"budget_s": 0.9, ...}}        built and warm
    {"do": "round", "number": 0}                {"wall_s": 0.0123, ...}
    {"do": "done"}                              {"record": {...}}                        also instead of "ready"

Both block while they wait. The stream ends when the peer dies.
"""

from __future__ import annotations

import json
import socket
from typing import Any, Final, Self

PROTOCOL: Final = 1
"""Version of the protocol. It rises when a child of an older revision would not understand a request."""
ONLY_TIME: Final = "only_time"
"""Key of a case's request to take no pass but that of time. Older revisions do not know it, and take all passes."""


class PeerLostError(Exception):
    """The process at the other end has ended."""

    def __init__(self, channel: Channel, problem: str = "") -> None:
        super().__init__(problem)
        self.channel = channel


class Channel:
    """One end of the connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = connection.makefile("r", encoding="utf-8", newline="\n")

    @classmethod
    def of_descriptor(cls, descriptor: int) -> Self:
        """Open a file descriptor that a parent passed to this process."""
        return cls(socket.socket(fileno=descriptor))

    def send(self, message: dict[str, Any]) -> None:
        """Send one message; raises PeerLostError if the peer has ended."""
        try:
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise PeerLostError(self) from error

    def receive(self) -> dict[str, Any]:
        """Wait for the next message; raises PeerLostError if the peer ends before it comes."""
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
        """Close this end of the connection."""
        self._reader.close()
        self._connection.close()
