"""Makes the state that `--peftbench-against` names ready to run: a git revision, other packages, or both."""

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
"""Start of an address."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The text that names a state, and the option that it came from."""

    text: str
    """A git revision, requirements, or a revision and requirements, separated by blanks."""
    option: str = ""
    """Option that errors name first; empty if there is none."""

    @property
    def name(self) -> str:
        """Name of the state for people and for files, without credentials."""
        return masked(self.text)

    def problem(self, text: object) -> UserError:
        """Return an error that names the option."""
        return UserError(f"{self.option}: {text}" if self.option else str(text))


@dataclass(frozen=True, slots=True)
class StateParts:
    """The parts of the text that names a state."""

    repository: Repository | None
    commit: str
    """Hash of the commit; '' if the text names no revision."""
    packages: tuple[str, ...]
    """Requirements."""

    @property
    def text(self) -> str:
        """Text that names the same state for ever, since a branch is replaced by its commit."""
        return " ".join(filter(None, [self.commit, *self.packages]))


def parts(asked: Asked, folder: Path) -> StateParts:
    """Split a text into a revision and requirements.

    Args:
        asked: The text.
        folder: A folder in this checkout's repository.

    Raises:
        UserError: a word is neither a revision nor a requirement; the message holds that of git.
    """
    words = asked.text.split()
    if not words:
        raise asked.problem(f"names no state: give a revision, or {EXAMPLE}")
    repository, commit = _revision(words[0], folder, asked)
    packages = tuple(words[1:] if commit else words)
    for package in packages:
        if not is_requirement(package):
            raise asked.problem(f"{package!r} is not {EXAMPLE}")
    return StateParts(repository, commit, packages)


def other_state(asked: Asked, command: Command, folder: Path, cache: Path, say: Callable[[str], None]) -> State:
    """Return the state that a text names, with its sources checked out and its packages installed.

    Args:
        asked: The text.
        command: How the pytest run is started in this checkout.
        folder: A folder in this checkout's repository.
        cache: Folder in which work trees and environments are kept.
        say: Prints a line for the user about what takes long.

    Raises:
        UserError: the text names no state, or the state cannot be made.
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
    """Return the repository and the commit that a word names; None and '' if the word is a requirement."""
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
    """Tell whether a word names a package with a version or an address.

    A bare name does not count, because it is more often a mistyped revision than a package. `HEAD@{1}` does not
    count either, although packaging reads it as a package and its address.
    """
    try:
        requirement = parse(text)
    except UserError:
        return False
    return bool(requirement.specifier) or bool(_SCHEME.match(requirement.url or ""))
