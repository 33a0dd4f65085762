"""The states between two states of the code: commits along first parents, or releases on the package index."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from packaging.version import InvalidVersion, Version

from peftbench.errors import UserError
from peftbench.processes.git import GitError, git, without_git
from peftbench.processes.launches.process import last_line
from peftbench.processes.lockstep.overlay import parse
from peftbench.processes.lockstep.revision import SHORT, Repository
from peftbench.processes.lockstep.states import THIS, Asked, StateParts, parts

_OFFERED: Final = re.compile(r"^Available versions:(?P<versions>.*)$", re.MULTILINE)
"""Line in which `pip index versions` lists versions."""
CANNOT: Final = (
    "--peftbench-bisect needs two states between which others lie: a revision of this repository, "
    "or one package with its version, 'peft==0.20.0'"
)


@dataclass(frozen=True, slots=True)
class Place:
    """One of the states that a bisection searches."""

    name: str
    """Name for people."""
    text: str
    """Value of --peftbench-against for the state; '' for this checkout."""


def between(against: Asked, candidate: Asked | None, folder: Path) -> list[Place]:
    """Return the states from the old to the new one, both included.

    Args:
        against: The old state.
        candidate: The new state; None for this checkout.
        folder: A folder in this checkout's repository.

    Raises:
        UserError: the two are not of one kind; or git, or the index, cannot list the states between.
    """
    old, new = parts(against, folder), parts(candidate, folder) if candidate is not None else None
    if old.repository and old.commit and not old.packages:
        return _commits(old.repository, old.commit, new)
    if old.commit or len(old.packages) != 1:
        raise UserError(CANNOT)
    return _releases(old.packages[0], new)


def _commits(repository: Repository, older: str, new: StateParts | None) -> list[Place]:
    if new is not None and (new.packages or not new.commit):
        raise UserError(CANNOT)
    newer = new.commit if new is not None else repository.commit("HEAD")
    try:
        parted = git(repository.root, "merge-base", older, newer)
    except GitError:
        raise UserError(f"--peftbench-bisect: {older[:SHORT]} and {newer[:SHORT]} have no commit in common") from None
    first = [older] if older == parted else [older, parted]
    commits = [*map(repository.described, first), *repository.commits(parted, newer)]
    places = [Place(f"{commit[:SHORT]} {subject}".strip(), commit) for commit, subject in commits]
    if new is not None:
        return places
    edited = git(repository.root, "status", "--porcelain", "--untracked-files=no")
    here = Place(THIS if edited or len(places) == 1 else f"{places[-1].name} ({THIS})", "")
    return [*(places if edited or len(places) == 1 else places[:-1]), here]


def _releases(requirement: str, new: StateParts | None) -> list[Place]:
    name, oldest = _pinned(requirement)
    if new is None:
        try:
            newest = version(name)
        except PackageNotFoundError:
            raise UserError(f"--peftbench-bisect: {name} is not installed in this environment") from None
        last = Place(f"{name}=={newest} ({THIS})", "")
    else:
        if new.commit or len(new.packages) != 1 or _pinned(new.packages[0])[0] != name:
            raise UserError(CANNOT)
        newest = _pinned(new.packages[0])[1]
        last = Place(new.packages[0], new.packages[0])
    found = within(offered(name), oldest, newest)
    return [Place(requirement, requirement), *(Place(text := f"{name}=={one}", text) for one in found), last]


def _pinned(text: str) -> tuple[str, str]:
    """Return the package and the version that a requirement pins; raises UserError if it is no plain pin."""
    requirement = parse(text)
    pins = [one.version for one in requirement.specifier if one.operator == "==" and not one.version.endswith("*")]
    if len(pins) != 1 or len(requirement.specifier) != 1 or requirement.extras or requirement.marker:
        raise UserError(CANNOT)
    return requirement.name, pins[0]


def within(versions: Sequence[str], first: str, last: str) -> list[str]:
    """Return the versions between two, both excluded, in order from the first to the last."""
    ends = sorted((Version(first), Version(last)))
    known = {_version(text): text for text in versions}
    inner = sorted(one for one in known if one is not None and ends[0] < one < ends[1])
    return [known[one] for one in (inner if ends[0] == Version(first) else reversed(inner))]


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def offered(name: str) -> list[str]:
    """Return the versions of a package on pip's index; raises UserError with pip's message if pip cannot list them."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "index", "versions", name]
    done = subprocess.run(  # noqa: S603 - this interpreter
        command, env=without_git(os.environ), capture_output=True, text=True, check=False
    )
    told = _OFFERED.search(done.stdout)
    if done.returncode or told is None:
        raise UserError(f"--peftbench-bisect: the index does not tell versions of {name}: {last_line(done.stderr)}")
    return [word.strip() for word in told["versions"].split(",") if word.strip()]
