"""What `--peftbench-against` names, made ready to run: a git revision, other packages, or both."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from peftbench.errors import UserError
from peftbench.processes.launches.process import Command
from peftbench.processes.lockstep.overlay import parse, python_with, unsatisfied
from peftbench.processes.lockstep.pair import State
from peftbench.processes.lockstep.revision import Repository, moved, requirements

THIS: Final = "this checkout"


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
    first, *rest = text.split()
    repository = Repository.of(folder)
    commit = repository.commit(first) if repository else None
    packages = rest if commit else [first, *rest]
    for package in packages:
        _require_version(package, repository)
    avoid = own = ""
    if repository and commit:
        worktree = repository.checked_out(commit, cache)
        command = moved(command, repository.root, worktree, sys.path)
        packages = [*unsatisfied(requirements(worktree, repository.root)), *packages]
        avoid, own = str(repository.root), str(worktree)
    if packages:
        say(f"making an environment with {' '.join(packages)}")
        python = python_with(packages, cache)
        command = replace(command, arguments=(str(python), *command.arguments[1:]))
    return State(name=text, command=command, avoid=avoid, worktree=own)


def _require_version(text: str, repository: Repository | None) -> None:
    """Refuse a bare name: it is a mistyped revision more often than a wish for a package's latest version."""
    try:
        requirement = parse(text)
    except UserError:
        requirement = None
    if requirement is None or not (requirement.specifier or requirement.url):
        where = f"no revision of {repository.root}" if repository else "no revision (there is no git repository)"
        raise UserError(f"--peftbench-against: {text!r} is {where}, and no requirement such as 'peft==0.20.0'")
