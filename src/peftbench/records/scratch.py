"""Temporary folders. They are deleted at the end, and those of a killed process by the next run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

PREFIX: Final = "peftbench-"
_LOCK: Final = "owner.lock"
"""File that the process locks for its life. The system releases the lock however the process ends."""
_FILES: Final = "files"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give an empty folder in the system's folder for temporary files, and delete it when the context ends.

    Raises:
        OSError: the folder cannot be made, or a file in it cannot be deleted.
    """
    while True:
        with tempfile.TemporaryDirectory(prefix=PREFIX) as name, suppress(_TakenError), _owned(Path(name)) as folder:
            yield folder
            return


def sweep() -> int:
    """Delete the folders of killed processes; return their number. No error is raised."""
    count = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError, Timeout):
            if not _is_ours(folder):
                continue
            with FileLock(folder / _LOCK, timeout=0):
                shutil.rmtree(folder)
                count += 1
    return count


class _TakenError(Exception):
    """Another process has deleted the folder before it was locked."""


@contextmanager
def _owned(folder: Path) -> Iterator[Path]:
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire()
        (folder / _FILES).mkdir()
    except FileNotFoundError as error:
        lock.release()
        raise _TakenError from error
    try:
        yield folder / _FILES
    finally:
        lock.release()


def _is_ours(folder: Path) -> bool:
    """Tell whether a folder is a scratch folder of this user. Other programs may use the prefix, too."""
    owned = not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()
    return owned and not folder.is_symlink() and (folder / _LOCK).is_file()
