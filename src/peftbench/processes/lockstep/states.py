"""What `--peftbench-against` names, made ready to run: a git revision, other packages, or both."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from peftbench.errors import UserError
from peftbench.processes.git import GitError
from peftbench.processes.launches.process import Command
from peftbench.processes.lockstep.overlay import parse, python_with, unsatisfied
from peftbench.processes.lockstep.pair import State
from peftbench.processes.lockstep.revision import Repository, moved, requirements
from peftbench.text import masked

THIS: Final = "this checkout"
EXAMPLE: Final = "a requirement such as 'peft==0.20.0'"
_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:/")
"""Begins an address."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What names a state, and where it was asked for."""

    text: str
    """A git revision, requirements, or one and the others, separated by blanks."""
    option: str = ""
    """Begins each error."""

    @property
    def name(self) -> str:
        """For people, and for files."""
        return masked(self.text)

    def problem(self, text: object) -> UserError:
        """Return an error that says where the state was asked for."""
        return UserError(f"{self.option}: {text}" if self.option else str(text))


@dataclass(frozen=True, slots=True)
class Parts:
    """What a text names."""

    repository: Repository | None
    commit: str
    """Of the repository; '' where no revision is named."""
    packages: tuple[str, ...]
    """Requirements."""

    @property
    def text(self) -> str:
        """What names it, wherever the branch that it was named by is later."""
        return " ".join(filter(None, [self.commit, *self.packages]))


def parts(asked: Asked, folder: Path) -> Parts:
    """Return what a text names.

    Args:
        asked: The text.
        folder: One in this checkout's repository.

    Raises:
        UserError: it names nothing; says what git says of it.
    """
    words = asked.text.split()
    if not words:
        raise asked.problem(f"names no state: give a revision, or {EXAMPLE}")
    repository, commit = _revision(words[0], folder, asked)
    packages = tuple(words[1:] if commit else words)
    for package in packages:
        if not is_requirement(package):
            raise asked.problem(f"{package!r} is not {EXAMPLE}")
    return Parts(repository, commit, packages)


def other_state(asked: Asked, command: Command, folder: Path, cache: Path, say: Callable[[str], None]) -> State:
    """Return the state that a text names, with its sources checked out and its packages installed.

    Args:
        asked: The text.
        command: How the same is started in this checkout.
        folder: One in this checkout's repository.
        cache: Where work trees and environments are kept.
        say: Tells the user what takes a while.

    Raises:
        UserError: it names nothing, or cannot be made.
    """
    found = parts(asked, folder)
    packages, avoid, own = list(found.packages), "", ""
    try:
        if found.repository and found.commit:
            root, worktree = found.repository.root, found.repository.checked_out(found.commit, cache)
            command = moved(command, root, worktree, sys.path)
            packages = [*unsatisfied(requirements(worktree, root)), *packages]
            avoid, own = str(root), str(worktree)
        if packages:
            say(masked(f"making an environment with {' '.join(packages)}"))
            python = python_with(packages, cache)
            command = replace(command, arguments=(str(python), *command.arguments[1:]))
    except UserError as error:
        raise asked.problem(error) from error
    return State(name=asked.name, command=command, avoid=avoid, worktree=own)


def _revision(word: str, folder: Path, asked: Asked) -> tuple[Repository | None, str]:
    """Return the repository and the commit that a word names, or neither where it is a requirement instead."""
    if word.startswith("-"):
        raise asked.problem(f"{word!r} is an option, and no revision; nor is it {EXAMPLE}")
    try:
        repository = Repository.of(folder)
    except GitError as error:
        problem = f"{word!r} is no revision (git: {error})"
    else:
        try:
            return repository, repository.commit(word)
        except GitError as error:
            problem = str(error)
    if is_requirement(word):
        return None, ""
    raise asked.problem(f"{problem}; nor is it {EXAMPLE}")


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
