"""Every call of git goes through here: what a hook or a linked work tree has set does not reach it, nor do hooks run.

Within a hook git sets variables such as GIT_DIR and GIT_INDEX_FILE, which say where its repository and index are,
whatever folder git is called in. A call that obeyed them would write to the index of the user's unfinished commit.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from peftbench.errors import UserError

ALONE: Final = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false", "-c", "core.splitIndex=false")
"""Options with which git starts no program of the user's, and keeps an index in the one file that is named."""
QUIET: Final[Mapping[str, str]] = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "LANGUAGE": ""}
"""Variables with which git does not refresh an index on the side, asks nothing, and says what it says in English."""
PLACES: Final = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"})
"""Variables that name a repository: what is taken away where there is no git that names them all."""


class GitError(UserError):
    """Git cannot do it: its own word, in one line."""


def git(folder: Path, *words: str, environment: Mapping[str, str] | None = None, timeout_s: float | None = None) -> str:
    """Call git in a folder; return what it prints, without blanks around it.

    Args:
        folder: Where it is called, which alone says which repository is meant.
        words: What follows `git`.
        environment: Variables besides, such as GIT_INDEX_FILE.
        timeout_s: Seconds that it may take; None: as long as it likes.

    Raises:
        GitError: there is no git, it took too long, or it failed.
    """
    try:
        done = _call(folder, words, {**without_git(os.environ), **QUIET, **(environment or {})}, timeout_s)
    except FileNotFoundError:
        raise GitError("there is no git on the PATH" if folder.is_dir() else f"no such folder: {folder}") from None
    except OSError as error:
        raise GitError(f"git cannot be started in {folder}: {error.strerror or error}") from None
    except subprocess.TimeoutExpired:
        raise GitError(f"`git {words[0]}` took longer than {timeout_s:g} s in {folder}") from None
    if done.returncode:
        raise GitError(_word(done.stderr) or f"`git {words[0]}` ended with status {done.returncode}")
    return done.stdout.strip()


def answer(folder: Path, *words: str, timeout_s: float | None = None) -> str | None:
    """Call git as `git` does, and return None where it fails."""
    try:
        return git(folder, *words, timeout_s=timeout_s)
    except GitError:
        return None


def without_git(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process that are not those of one repository."""
    local = _local_variables()
    return {name: value for name, value in environment.items() if name not in local}


@cache
def _local_variables() -> frozenset[str]:
    """Return the variables that belong to one repository, as git itself names them."""
    try:
        named = _call(Path(os.sep), ("rev-parse", "--local-env-vars"), dict(os.environ), None).stdout
    except OSError:
        named = ""
    return PLACES.union(named.split())


def _call(
    folder: Path, words: tuple[str, ...], environment: Mapping[str, str], timeout_s: float | None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - git, without a shell
        ["git", *ALONE, *words],  # noqa: S607 - the user's git
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=timeout_s,
        check=False,
    )


def _word(text: str) -> str:
    """Return what git says in one line, from its complaint on: before that stands what it was about to do."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    start = next((place for place, line in enumerate(lines) if line.startswith(("fatal:", "error:"))), 0)
    return " ".join(lines[start:]).removeprefix("fatal: ")
