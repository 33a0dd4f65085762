"""What `--peftbench-against` names, made ready to run: a git revision, other packages, or both."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from peftbench.errors import UserError
from peftbench.git import GitError
from peftbench.launches.process import Command
from peftbench.lockstep.overlay import parse, python_with, unsatisfied
from peftbench.lockstep.pair import State
from peftbench.lockstep.revision import Repository, moved, requirements
from peftbench.masking import masked

THIS: Final = "this checkout"
EXAMPLE: Final = "a requirement such as 'peft==0.20.0'"
_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:/")
"""Begins an address."""


def other_state(text: str, command: Command, folder: Path, cache: Path, say: Callable[[str], None]) -> State:
    """Return the state that a text names, with its sources checked out and its packages installed.

    Args:
        text: A git revision, requirements, or one and the others, separated by blanks.
        command: How the same is started in this checkout.
        folder: One in this checkout's repository.
        cache: Where work trees and environments are kept.
        say: Tells the user what takes a while.

    Raises:
        UserError: it names nothing, or cannot be made.
    """
    words = text.split()
    repository, commit = _revision(words[0] if words else "", folder)
    packages = words[1:] if commit else words
    for package in packages:
        _require_version(package)
    avoid = own = ""
    if repository and commit:
        worktree = repository.checked_out(commit, cache)
        command = moved(command, repository.root, worktree, sys.path)
        packages = [*unsatisfied(requirements(worktree, repository.root)), *packages]
        avoid, own = str(repository.root), str(worktree)
    if packages:
        say(masked(f"making an environment with {' '.join(packages)}"))
        python = python_with(packages, cache)
        command = replace(command, arguments=(str(python), *command.arguments[1:]))
    return State(name=masked(text), command=command, avoid=avoid, worktree=own)


def _revision(word: str, folder: Path) -> tuple[Repository | None, str]:
    """Return the repository and the commit that a word names, or neither where it is a requirement instead.

    Raises:
        UserError: it is nothing of the two; says what git says of it.
    """
    if not word:
        raise UserError(f"--peftbench-against names no state: give a revision, or {EXAMPLE}")
    if word.startswith("-"):
        raise UserError(f"--peftbench-against: {word!r} is an option, not a revision; nor is it {EXAMPLE}")
    try:
        repository = Repository.of(folder)
        return repository, repository.commit(word)
    except GitError as error:
        if is_requirement(word):
            return None, ""
        raise UserError(f"--peftbench-against: {word!r} is not {EXAMPLE}; nor is it a revision: {error}") from None


def _require_version(text: str) -> None:
    if not is_requirement(text):
        raise UserError(f"--peftbench-against: {text!r} is not {EXAMPLE}")


def is_requirement(text: str) -> bool:
    """Tell whether a word says which version of a package, or where it lies.

    A bare name does not: it is a mistyped revision more often than a wish for a package's latest version. Nor does
    `HEAD@{1}`, which packaging would read as a package and its address.
    """
    try:
        requirement = parse(text)
    except UserError:
        return False
    return bool(requirement.specifier) or bool(_SCHEME.match(requirement.url or ""))
