"""One child process: started, waited for without spinning, killed when it takes too long, and what became of it."""

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
from pathlib import Path
from typing import Final

from peftbench.errors import UserError
from peftbench.processes.git import without_git

PATIENCE_S: Final = 10.0
"""For which an interrupted child may put its affairs in order."""

_USAGE_ERROR: Final = re.compile(
    r"^(?:ERROR:|!+ _pytest\.outcomes\.Exit:) (?:peftbench: )?(?P<said>.+?)(?: !+)?$", re.MULTILINE
)
"""What pytest prints of a UsageError, and of `pytest.exit`."""


class ExitStatus(IntEnum):
    """What pytest's exit statuses mean."""

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
    """Its working directory."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that are added to this process's, of which those that a git hook has set are left out."""
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of a child."""

    problem: str
    """Why it did not end in order, as words that follow a subject: `was killed by SIGKILL`; empty where it did."""
    wall_s: float
    log: Path
    """What it printed."""


def run(command: Command, log: Path, *, more: Sequence[str] = (), files: Sequence[int] = ()) -> Ending:
    """Run a child to its end.

    Args:
        command: How it is started.
        log: Where its output goes.
        more: Arguments that follow those of the command.
        files: Descriptors that it inherits.

    Raises:
        UserError: it refused what it was asked for; what it said.
    """
    start_s = time.monotonic()
    with started(command, log, more=more, files=files) as process, deadline(process, command.timeout_s) as expired:
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
    """Start a child; it has ended when the context has, and is killed if that ends with an exception."""
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
            if isinstance(error, KeyboardInterrupt):  # it has reached the child as well
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE_S)
        finally:  # interrupted again, it waits no longer
            process.kill()
        raise
    finally:
        process.wait()


@contextlib.contextmanager
def deadline(process: subprocess.Popen[bytes], timeout_s: float | None) -> Iterator[threading.Event]:
    """Kill a process that has not ended in time, and set the event; a thread sleeps until then, nothing polls.

    No thread can sleep for longer than `threading.TIMEOUT_MAX` (292 years), so that is as late as it gets.
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


def describe(status: int, log: Path) -> str:
    """Return what is wrong with an exit status of pytest, or ''.

    Raises:
        UserError: it is that of a usage error; says what the child said.
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
    """Return the last line that says something, shortened."""
    lines = [line.strip("=! \t") for line in text.splitlines()]
    return next((line for line in reversed(lines) if line), "it said nothing")[:200]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
