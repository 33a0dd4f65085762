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
from peftbench.records.fileio import locked, read_json, write_atomically
from peftbench.records.jsondata import decode
from peftbench.text import visible

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


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Give an empty folder, which stands in the place of `folder` once the context ends without an error.

    Until then, and after an error, `folder` is as it was. It is replaced whole: a reader never finds a part of both.

    Raises:
        UserError: `folder` holds anything that `replaced` did not put there, another process replaces it, or it cannot
            be written.
    """
    target = folder.resolve()
    if not target.name:
        raise UserError(f"{folder}: is no folder that can be replaced; name another")
    new, old = (target.with_name(f".{target.name}.{word}") for word in ("new", "old"))
    with locked(target):
        try:
            _recover(target, old)
            _refuse_foreign(target, folder)
            for left in (new, old):
                _remove_ours(left)
            new.mkdir()
            (new / MARK).touch()
            yield new
            (new / MARK).write_text("".join(f"{name}\n" for name in _content(new)), encoding="utf-8")
            if target.exists():
                target.rename(old)
            new.rename(target)
            _remove_ours(old)
        except OSError as error:
            raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from error
        finally:
            with suppress(OSError):
                _recover(target, old)
                _remove_ours(new)


def _recover(target: Path, old: Path) -> None:
    """Put back the old folder if a process died, or failed, between the two renames."""
    if not os.path.lexists(target) and (old / MARK).is_file():
        old.rename(target)


def _refuse_foreign(target: Path, folder: Path) -> None:
    if not os.path.lexists(target) or _is_empty(target):
        return
    if not (target / MARK).is_file():
        raise UserError(
            f"{folder}: would be replaced, and was not made by peftbench (it holds no {MARK}); name another"
        )
    known = set((target / MARK).read_text(encoding="utf-8").splitlines())
    if foreign := [name for name in _content(target) if name not in known]:
        raise UserError(f"{folder}: would be replaced, and holds {foreign[0]}, which peftbench did not put there")


def _content(folder: Path) -> list[str]:
    """Return the files below a folder, and the folders that are empty, relative to it."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir() or not any(path.iterdir()))
    return sorted(visible(path.relative_to(folder).as_posix()) for path in found if path != folder / MARK)


def _remove_ours(folder: Path) -> None:
    if (folder / MARK).is_file() and not folder.is_symlink():
        shutil.rmtree(folder)


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
