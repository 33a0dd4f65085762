"""Files that are written whole or not at all, and read with errors that say where."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from peftbench.errors import UserError
from peftbench.records.jsondata import Json

_STRING_OR_CONSTANT: Final = re.compile(r'"(?:[^"\\]|\\.)*"|(?P<constant>NaN|-?Infinity)')


def write_atomically(path: Path, text: str) -> None:
    """Write a UTF-8 file such that a reader, or a crash at any moment, sees the old text or the new one, never a part.

    The text goes to a temporary file in the same folder (made if need be), to the disk, and then takes the name.
    An existing file keeps its permissions; a link keeps pointing where it points.

    Raises:
        UserError: the file cannot be written; the old one is untouched, and nothing is left beside it.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
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
    """Keep a second writer of `path` out, on this machine and on others that share the folder.

    The lock is a file beside `path`, gone at the end; one that a dead process left is taken over.

    Raises:
        UserError: somebody else holds the lock for longer than `timeout_s`, or the folder cannot be written.
    """
    from filelock import SoftFileLock, Timeout

    target = Path(os.path.realpath(path))
    lock_path = target.with_name(f".{target.name}.lock")
    lock = SoftFileLock(lock_path, timeout=timeout_s)
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
        UserError: it cannot be read, or is not UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start}); is it the right file?") from error


def read_json(path: Path, *, what_to_do: str = "restore it, or make it again") -> Json:
    """Return what a JSON file holds, refusing what JSON does not know (NaN) and what it leaves open (a name twice).

    Args:
        path: The file.
        what_to_do: The end of each message, for people.

    Raises:
        UserError: the file cannot be read or parsed; says where in it.
    """
    return parse_json(read_text(path), source=str(path), what_to_do=what_to_do)


def parse_json(text: str, *, source: str, line: int = 1, what_to_do: str = "restore it, or make it again") -> Json:
    """Parse as `read_json` does; `text` begins on `line` of `source`, which errors name."""

    def refuse(position: int, problem: str) -> NoReturn:
        number = line + text.count("\n", 0, position)
        raise UserError(f"{source}:{number}: {problem}; {what_to_do}")

    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        if not text[error.pos :].strip():
            refuse(len(text.rstrip()), "the file ends too early" if text.strip() else "the file is empty")
        column = error.pos - text.rfind("\n", 0, error.pos)
        refuse(error.pos, f"not JSON at column {column} ({error.msg})")
    except _ConstantError as error:
        hits = (hit for hit in _STRING_OR_CONSTANT.finditer(text) if hit["constant"])
        refuse(next(hits).start(), f"{error} is not a finite number")
    except _TwiceError as error:
        name = json.dumps(str(error))
        places = [hit.start() for hit in re.finditer(re.escape(name) + r"\s*:", text)]
        refuse(places[1] if len(places) == 2 else 0, f"{name} stands twice in one object")  # noqa: PLR2004 - "twice"
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets in thousands
        refuse(0, f"not JSON that can be read ({error})")


class _ConstantError(Exception):
    """NaN or an infinity, which Python's reader would let pass."""


class _TwiceError(Exception):
    """A name that stands twice in one object: the last would win silently."""


def _refuse_constant(text: str) -> NoReturn:
    raise _ConstantError(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return data
