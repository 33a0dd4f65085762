"""Starts a child process, waits for it without polling, kills it when it takes too long, and describes its end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from peftbench.errors import UserError
from peftbench.processes.git import without_git

PATIENCE_S: Final = 10.0
"""Seconds that an interrupted child has to end by itself."""

_USAGE_ERROR: Final = re.compile(
    r"^(?:ERROR:|!+ _pytest\.outcomes\.Exit:) (?:peftbench: )?(?P<said>.+?)(?: !+)?$", re.MULTILINE
)
"""Lines that pytest prints for a UsageError and for `pytest.exit`."""


class ExitStatus(IntEnum):
    """Exit statuses of pytest."""

    OK = 0
    TESTS_FAILED = 1
    INTERRUPTED = 2
    INTERNAL_ERROR = 3
    USAGE_ERROR = 4
    NO_TESTS_COLLECTED = 5


@dataclass(frozen=True, kw_only=True)
class Command:
    """How a child is started."""

    arguments: tuple[str, ...]
    folder: Path
    """Working directory of the child."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that are added to those of this process. Variables of a git hook are removed."""
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended."""

    problem: str
    """What went wrong, as a predicate: `was killed by SIGKILL`. Empty if nothing did."""
    wall_s: float
    log: Path
    """File with the output of the child."""


def plugin_option() -> list[str]:
    """Return the option of pytest that loads the plugin; none where an installed package makes pytest load it."""
    installed = any(point.value == "peftbench.plugin" for point in entry_points(group="pytest11"))
    return [] if installed else ["-p", "peftbench.plugin"]


def run(command: Command, log: Path, *, more: Sequence[str] = ()) -> Ending:
    """Run a child to its end.

    Args:
        command: How the child is started.
        log: File for its output.
        more: Arguments that follow those of the command.

    Raises:
        UserError: the child refused its options; the message is that of the child.
    """
    start_s = time.monotonic()
    with started(command, log, more=more) as process, deadline(process, command.timeout_s) as expired:
        process.wait()
    if expired.is_set():
        problem = f"took longer than {command.timeout_s:g} s and was killed"
    else:
        problem = describe(process.returncode, log)
    return Ending(problem, time.monotonic() - start_s, log)


@contextlib.contextmanager
def started(
    command: Command, log: Path, *, more: Sequence[str] = (), files: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a child. The context waits for its end, and kills the child if an exception leaves the context.

    Args:
        command: How the child is started.
        log: File for its output.
        more: Arguments that follow those of the command.
        files: File descriptors that the child inherits.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - pytest, with the arguments that it was called with here
            [*command.arguments, *more],
            cwd=command.folder,
            env={**without_git(os.environ), **command.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=tuple(files),
        )
    try:
        yield process
    except BaseException as error:
        try:
            if isinstance(error, KeyboardInterrupt):  # the child has got the interrupt, too
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE_S)
        finally:  # a second interrupt ends the waiting
            process.kill()
        raise
    finally:
        process.wait()


@contextlib.contextmanager
def deadline(process: subprocess.Popen[bytes], timeout_s: float | None) -> Iterator[threading.Event]:
    """Kill a process that has not ended after `timeout_s` seconds, and set the event.

    A sleeping thread does that, without polling. The longest timeout is `threading.TIMEOUT_MAX` (292 years).
    """
    expired = threading.Event()

    def kill() -> None:
        if process.poll() is None:
            expired.set()
            process.kill()

    timer = threading.Timer(min(timeout_s or 0.0, threading.TIMEOUT_MAX), kill)
    timer.daemon = True
    if timeout_s is not None:
        timer.start()
    try:
        yield expired
    finally:
        timer.cancel()
        if timer.is_alive():
            timer.join()


def describe(status: int, log: Path) -> str:
    """Return what an exit status of pytest says went wrong, or ''.

    Raises:
        UserError: the status is that of a usage error; the message is that of the child.
    """
    if status in (ExitStatus.OK, ExitStatus.TESTS_FAILED, ExitStatus.NO_TESTS_COLLECTED):
        return ""
    text = log.read_text(encoding="utf-8", errors="replace")
    if status == ExitStatus.USAGE_ERROR:
        said = _USAGE_ERROR.findall(text)
        raise UserError(said[-1] if said else f"{last_line(text)} (see {log})")
    if status < 0:
        return f"was killed by {_signal_name(-status)}"
    if status == ExitStatus.INTERRUPTED:
        return f"was interrupted: {last_line(text)}"
    return f"ended with status {status}: {last_line(text)}"


def last_line(text: str) -> str:
    """Return the last line that has text, without decoration, in at most 200 characters."""
    lines = [line.strip("=! \t") for line in text.splitlines()]
    return next((line for line in reversed(lines) if line), "it said nothing")[:200]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
