"""Writes files atomically, and reads files with errors that give the line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn

from peftbench.errors import UserError
from peftbench.records.jsondata import Json


class NotJsonError(UserError):
    """A text is no JSON: it is cut off, garbled, or something else."""


_STRING_OR_CONSTANT: Final = re.compile(r'"(?:[^"\\]|\\.)*"|(?P<constant>NaN|-?Infinity)')


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file, so that a reader or a crash at any moment finds the old content or the new content, never a part.

    A text is written as UTF-8. It goes to a temporary file in the same folder, which is made if need be. Temporary
    files of killed processes in that folder are deleted. After a flush to the disk the temporary file is renamed. An
    existing file keeps its permissions, and a link its target. Only a plain file is replaced; a pipe or a character
    device (/dev/stdout, /dev/null) is written to.

    Raises:
        UserError: the file cannot be written. The old file is untouched, and no temporary file is left.
    """
    data = content if isinstance(content, bytes) else content.encode()
    target = Path(os.path.realpath(path))
    temporary = temporary_beside(target)
    try:
        if is_stream(path):
            _pour(path, data)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(target.parent)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
        _flush_folder(target.parent)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_beside(target: Path) -> Path:
    """Return a new name in the folder of a file. It tells which process of which machine uses it."""
    # short, and without the file's own name, which may have the greatest length
    return target.with_name(f".{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")


def sweep_temporaries(folder: Path) -> None:
    """Delete the temporary files that killed processes of this machine left in a folder. No error is raised."""
    from psutil import pid_exists

    with suppress(OSError):
        for file in folder.glob(f".{_machine()}-*-????????.tmp"):
            process = file.name.split("-")[1]
            if process.isdecimal() and not pid_exists(int(process)):
                file.unlink(missing_ok=True)


@cache
def _machine() -> str:
    """Return eight digits for the machine and, in a container, for its processes: a number means one process there."""
    space = Path("/proc/self/ns/pid")
    numbers = space.stat().st_ino if space.exists() else 0
    return hashlib.blake2b(f"{platform.node()} {numbers}".encode(), digest_size=4).hexdigest()


def is_stream(path: Path) -> bool:
    """Tell whether a path is a pipe or a character device, which is written to and not replaced.

    Raises:
        UserError: the path is neither that nor a plain file (a folder, a disk, a socket), is below a file, is in a
            folder that cannot be written to, or cannot be examined.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        require_folder(path.parent, of=path)
        return False
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise UserError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        return True
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "socket" if stat.S_ISSOCK(mode) else "disk"
        raise UserError(f"{path}: is a {kind}; name the file to be written")
    require_folder(Path(os.path.realpath(path)).parent, of=path)  # a new file takes the place of the old one
    return False


def require_folder(folder: Path, *, of: Path) -> None:
    """Refuse a folder that can be neither used nor made, since it, or what should hold it, is no folder or read-only.

    Args:
        folder: The folder.
        of: What should be written, for the message.

    Raises:
        UserError: names what is no folder, or cannot be written to.
    """
    for part in (folder, *folder.parents):
        if os.path.isdir(part):  # noqa: PTH112 - a path that must not be examined is no error here
            if not os.access(part, os.W_OK):
                raise UserError(f"{of}: cannot be written: {part.absolute()} is read-only; name another place")
            return
        if os.path.lexists(part):
            raise UserError(f"{of}: cannot be written: {part} is no folder; name another place")


def _pour(path: Path, data: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)  # a blocking open would wait for a reader
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise UserError(f"{path}: nobody reads from it; start the reader first, or name a file") from error
        raise
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, no path
        os.set_blocking(descriptor, True)
        file.write(data)


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened, and the rename is journaled
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, *, timeout_s: float = 0.0) -> Iterator[None]:
    """Lock `path` against other writers on this machine, and on others that share the folder.

    The lock is a file beside `path`, which is deleted at the end. The lock of a dead process is taken over.

    Raises:
        UserError: another process holds the lock for longer than `timeout_s`, or the folder cannot be written.
    """
    from filelock import SoftFileLock, Timeout

    target = Path(os.path.realpath(path))
    lock_path = target.with_name(f".{target.name}.lock")
    lock = SoftFileLock(lock_path, timeout=timeout_s)
    require_folder(target.parent, of=path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"{path}: another process is writing it; wait for it to end, or delete {lock_path} if there is none"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be locked: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file.

    Raises:
        UserError: the file cannot be read, or is not UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start}); is it the right file?") from error


def read_json(path: Path, *, what_to_do: str = "restore it, or make it again") -> Json:
    """Return the content of a JSON file. NaN, which is no JSON, and a name that stands twice are refused.

    Args:
        path: The file.
        what_to_do: The end of each message, for people.

    Raises:
        UserError: the file cannot be read or parsed; says where in it.
    """
    return parse_json(read_text(path), source=str(path), what_to_do=what_to_do)


def parse_json(text: str, *, source: str, line: int = 1, what_to_do: str = "restore it, or make it again") -> Json:
    """Parse a text as `read_json` does. Errors name `source` and the line; `text` begins on `line`.

    Raises:
        NotJsonError: the text is no JSON.
        UserError: the text is JSON with NaN or with a name twice; says where.
    """

    def refuse(position: int, problem: str, kind: type[UserError] = UserError) -> NoReturn:
        number = line + text.count("\n", 0, position)
        raise kind(f"{source}:{number}: {problem}; {what_to_do}")

    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        if not text[error.pos :].strip():
            problem = "the file ends too early" if text.strip() else "the file is empty"
            refuse(len(text.rstrip()), problem, NotJsonError)
        column = error.pos - text.rfind("\n", 0, error.pos)
        refuse(error.pos, f"not JSON at column {column} ({error.msg})", NotJsonError)
    except _ConstantError as error:
        hits = (hit for hit in _STRING_OR_CONSTANT.finditer(text) if hit["constant"])
        refuse(next(hits).start(), f"{error} is not a finite number")
    except _TwiceError as error:
        name = json.dumps(str(error))
        places = [hit.start() for hit in re.finditer(re.escape(name) + r"\s*:", text)]
        refuse(places[1] if len(places) == 2 else 0, f"{name} stands twice in one object")  # noqa: PLR2004 - "twice"
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, thousands of brackets
        refuse(0, f"not JSON that can be read ({error})", NotJsonError)


class _ConstantError(Exception):
    """NaN or an infinity, which Python's reader accepts."""


class _TwiceError(Exception):
    """A name that stands twice in one object. Python's reader takes the last one silently."""


def _refuse_constant(text: str) -> NoReturn:
    raise _ConstantError(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return data
