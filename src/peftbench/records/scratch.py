"""Temporary folders: gone at the end, and where a process is killed before, with the next run."""

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
"""Held as long as the process lives that made the folder: the system lets go of it, however that ends."""
_FILES: Final = "files"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Within the context there is an empty folder, in the system's folder for temporary files.

    Raises:
        OSError: it cannot be made, or a file in it cannot be deleted.
    """
    while True:
        with tempfile.TemporaryDirectory(prefix=PREFIX) as name, suppress(_TakenError), _owned(Path(name)) as folder:
            yield folder
            return


def sweep() -> int:
    """Delete the folders of processes that were killed; return how many there were. Nothing is raised."""
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
    """Somebody has swept the folder away before it was locked."""


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
    """Return whether the folder is one of these, of this user: others have files of that name as well."""
    owned = not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()
    return owned and not folder.is_symlink() and (folder / _LOCK).is_file()
