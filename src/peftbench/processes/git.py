"""Calls git. Every call goes through here, so that none runs hooks or obeys variables of a hook or linked work tree.

In a hook git sets variables such as GIT_DIR and GIT_INDEX_FILE. They name a repository and an index, whatever folder
git is called in. A call that obeyed them would write to the index of the user's unfinished commit.
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
"""Options with which git starts no hook or monitor of the user's, and writes an index to one file."""
QUIET: Final[Mapping[str, str]] = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "LANGUAGE": ""}
"""Variables with which git does not refresh an index on the side, does not prompt, and answers in English."""
PLACES: Final = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"})
"""Variables that name a repository. They are removed even if git cannot list all such variables."""


DESCRIBE_S: Final = 10.0
"""Seconds that git may take to say whether anything differs from the commit, in case the work tree is huge."""


class GitError(UserError):
    """A call of git failed. The message is that of git, in one line."""


def git(folder: Path, *words: str, environment: Mapping[str, str] | None = None, timeout_s: float | None = None) -> str:
    """Call git in a folder; return its output without surrounding blanks.

    Args:
        folder: Folder in which git is called. It alone decides which repository is meant.
        words: Arguments of git.
        environment: Further variables, such as GIT_INDEX_FILE.
        timeout_s: Seconds that the call may take; None for no limit.

    Raises:
        GitError: git is missing, took too long, or failed.
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
    """Call git as `git` does; return None if it fails."""
    try:
        return git(folder, *words, timeout_s=timeout_s)
    except GitError:
        return None


def checked_out(folder: Path, *, tagged: bool = False) -> str:
    """Return the commit that is checked out, with `-dirty` if anything differs from it; '' outside git.

    Args:
        folder: A folder in the work tree.
        tagged: Whether a commit is named after the last tag before it: `v1.2`, `v1.2-3-g0123456789ab`.
    """
    words = ("--tags",) if tagged else ("--exclude=*",)
    found = answer(folder, "describe", "--always", "--dirty", "--abbrev=12", *words, timeout_s=DESCRIBE_S)
    return found or ""


def committed(folder: Path) -> str:
    """Return when the commit that is checked out was made, as ISO 8601; '' outside git."""
    return answer(folder, "show", "-s", "--format=%cI", "HEAD", timeout_s=DESCRIBE_S) or ""


def without_git(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an environment that do not name a repository."""
    local = _local_variables()
    return {name: value for name, value in environment.items() if name not in local}


@cache
def _local_variables() -> frozenset[str]:
    """Return the names of variables that belong to one repository, as git lists them."""
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
    """Return git's message in one line, from its first error on, without the progress before it."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    start = next((place for place, line in enumerate(lines) if line.startswith(("fatal:", "error:"))), 0)
    return " ".join(lines[start:]).removeprefix("fatal: ")
