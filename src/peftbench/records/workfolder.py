"""The work folder of a run, for its journal and launches. One run at a time owns it, and clears it."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from peftbench.errors import UserError
from peftbench.records.fileio import read_json, write_atomically
from peftbench.records.jsondata import decode

LOCK: Final = "lock"
"""File that the owner locks. The operating system releases the lock when the process ends."""
OWNER: Final = "owner.json"
"""File that names the owner, for people."""
MARK: Final = ".made-by-peftbench"
"""File that marks a folder that may be cleared."""
ELSE: Final = "give this run another folder with --peftbench-work"
ANOTHER_CACHE: Final = "set XDG_CACHE_HOME to a folder for another cache"


@dataclass(frozen=True, slots=True)
class _Owner:
    pid: int
    host: str
    since: str


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Own a folder, which is made if need be, until the context ends.

    Raises:
        UserError: another run owns the folder (says which), or it cannot be made or locked.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UserError(f"{folder}: {_owner(folder)} owns it; wait for its end, or {ELSE}") from None
    except (OSError, NotImplementedError) as error:
        raise UserError(f"{folder}: cannot be locked: {getattr(error, 'strerror', None) or error}; {ELSE}") from error
    try:
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        write_atomically(folder / OWNER, json.dumps(asdict(_Owner(os.getpid(), socket.gethostname(), now))))
        yield
    finally:
        with suppress(OSError):
            (folder / OWNER).unlink()
        lock.release()


def _owner(folder: Path) -> str:
    try:
        owner = decode(_Owner, read_json(folder / OWNER), "owner")
    except UserError:  # the owner has not written this file yet, or has just deleted it
        return "another run"
    return f"another run (process {owner.pid} on {owner.host}, since {owner.since})"


def make_ready(folder: Path, *, keep: bool = False, instead: str = ELSE) -> None:
    """Make a folder, or clear one that peftbench has made before.

    Args:
        folder: The folder. The caller sees to it that nobody else works in it.
        keep: Whether its content stays.
        instead: What a user whose folder it is may do, the end of an error.

    Raises:
        UserError: peftbench has not made the folder, or a process of an earlier run still works in it.
    """
    try:
        ours = (folder / MARK).is_file() and not folder.is_symlink()
        if not ours and os.path.lexists(folder) and not keep and not _is_empty(folder):
            raise UserError(
                f"{folder}: would be cleared, and was not made by this release of peftbench (it holds no {MARK}); "
                f"delete it yourself, or {instead}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        if ours and not keep:
            _clear(folder)
        if ours or _is_empty(folder):
            (folder / MARK).touch()
    except OSError as error:
        raise UserError(f"{folder}: cannot be cleared: {error.strerror or error}; {instead}") from error


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())


def _clear(folder: Path) -> None:
    for lock in folder.rglob(LOCK):
        with owned(lock.parent):
            pass
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != MARK:  # the mark stays, so that a folder that is half cleared may still be cleared
            entry.unlink()
