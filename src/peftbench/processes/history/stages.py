"""The states of a history: those that the user lists, or every n-th commit of a range."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from peftbench.errors import UserError
from peftbench.processes.git import GitError
from peftbench.processes.lockstep.revision import SHORT, Repository
from peftbench.processes.lockstep.states import Asked, parts
from peftbench.records.history import Stage
from peftbench.text import masked

_COMMA: Final = re.compile(r",(?![^\[]*\])(?!\s*[<>=!~])")
"""Comma that separates two states, unlike those in `peft[a,b]` and `peft>=0.19,<0.20`."""
LEAST: Final = 2
"""Fewest states of a history, because a step needs two."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A state that a history asks for."""

    stage: Stage
    text: str
    """Value of --peftbench-against for the state, with credentials, which are never stored."""


def checkout(options: Sequence[str], folder: Path) -> Path:
    """Return a folder in the work tree that pytest measures: of its root directory or its first file, or `folder`.

    Args:
        options: Files and options of pytest.
        folder: The folder in which pytest runs.
    """
    roots = [word.removeprefix("--rootdir=") for word in options if word.startswith("--rootdir=")]
    roots += [after for word, after in pairwise(options) if word == "--rootdir"]
    files = [word.partition("::")[0] for word in options if not word.startswith("-")]
    places = [folder / word for word in (*roots, *files) if word]
    place = next((place for place in places if place.exists()), folder)
    return place if place.is_dir() else place.parent


def listed(text: str, folder: Path) -> list[Wanted]:
    """Return the states that `--states` names, oldest first. A state that cannot be read carries the problem.

    Raises:
        UserError: there are fewer than two, or one is named twice.
    """
    names = [name.strip() for name in _COMMA.split(text) if name.strip()]
    _require_two(names, f"--states {text}")
    wanted = [_wanted(name, folder) for name in names]
    identities = [one.stage.identity for one in wanted]
    for place, one in enumerate(wanted):
        if one.stage.identity in identities[:place]:
            raise UserError(f"--states: {one.stage.name} is the same as a state before it")
    return wanted


def _wanted(name: str, folder: Path) -> Wanted:
    asked = Asked(name)
    try:
        found = parts(asked, folder)
    except UserError as error:
        return Wanted(Stage(asked.name, asked.name, problem=str(error)), name)
    return Wanted(Stage(asked.name, masked(found.text)), found.text)


def revisions(text: str, every: int, folder: Path) -> list[Wanted]:
    """Return both ends of a range `v1..HEAD`, and every n-th commit between along first parents.

    Raises:
        UserError: the text is no range, git does not know its ends, or there are fewer than two commits.
    """
    oldest, dots, newest = text.partition("..")
    if not dots or not oldest or text.startswith("-") or newest.startswith(("-", ".")):
        raise UserError(f"--revisions {text}: give two revisions with two dots between: v1..HEAD")
    try:
        repository = Repository.of(folder)
        ends = [repository.commit(end) for end in (oldest, newest or "HEAD")]
        commits = [repository.described(ends[0]), *repository.commits(*ends)]
    except GitError as error:
        raise UserError(f"--revisions {text}: {error}") from None
    chosen = [*commits[:-1:every], commits[-1]]
    _require_two(chosen, f"--revisions {text}")
    return [Wanted(Stage(commit[:SHORT], commit, subject), commit) for commit, subject in chosen]


def _require_two(found: Sequence[object], what: str) -> None:
    if len(found) < LEAST:
        raise UserError(f"{what}: names {len(found)} state; a history needs two, with a step between them")
