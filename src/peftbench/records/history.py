"""The file of a history: its options, states and steps. A step has one line, and the file is written after each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from peftbench.errors import UserError
from peftbench.records.fileio import read_json, write_atomically
from peftbench.records.jsondata import decode, encode
from peftbench.records.versions import Migration, bring_up_to_date

SCHEMA: Final = "peftbench/history/1"
"""Name and version of the format."""
MIGRATIONS: Final[dict[int, Migration]] = {}
"""Version -> the function that turns a file of it into one of the next version."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One state of the code in a history."""

    name: str
    """Name that the user gave; the short hash of a commit in a range."""
    identity: str
    """Commit and requirements for which the name stood."""
    about: str = ""
    """Subject line of a commit in a range."""
    problem: str = ""
    """Why the state cannot be installed or checked out, and is left out."""


@dataclass(frozen=True, slots=True)
class Step:
    """A comparison of two neighbouring states in lock-step."""

    base: str
    """Identity of the old state."""
    new: str
    """Identity of the new state."""
    comparison: Mapping[str, Any] | None = None
    """Content that --peftbench-diff-json wrote; None if nothing was compared."""
    problem: str = ""
    """Why nothing was compared."""


@dataclass(frozen=True, slots=True)
class History:
    """A chain of states, and the steps that are finished."""

    options: tuple[str, ...]
    """Options of pytest."""
    stages: tuple[Stage, ...]
    steps: tuple[Step, ...] = field(default=())
    """Finished steps, in the order in which they were made. Some may belong to an earlier chain of states."""

    @property
    def chain(self) -> list[tuple[Stage, Stage]]:
        """Pairs of neighbouring states. A state that cannot be made is left out."""
        return list(pairwise(stage for stage in self.stages if not stage.problem))

    def step(self, base: Stage, new: Stage) -> Step | None:
        """Return the step between two states, if it was tried."""
        pair = base.identity, new.identity
        return next((step for step in self.steps if (step.base, step.new) == pair), None)

    def left(self) -> list[tuple[Stage, Stage]]:
        """Return the pairs that are not compared yet. Pairs that had a problem are tried again."""

        def finished(base: Stage, new: Stage) -> bool:
            step = self.step(base, new)
            return step is not None and step.comparison is not None

        return [pair for pair in self.chain if not finished(*pair)]

    def with_step(self, step: Step) -> History:
        """Return the history with a step, which replaces an earlier attempt."""
        others = [one for one in self.steps if (one.base, one.new) != (step.base, step.new)]
        return replace(self, steps=(*others, step))


def read(path: Path) -> History:
    """Read a history; raises UserError, which says where the file is wrong."""
    return from_json(read_json(path, what_to_do="move it away, to begin anew"), str(path))


def from_json(data: object, source: str) -> History:
    """Return the history in JSON data; raises UserError, which says where it is wrong."""
    return decode(History, bring_up_to_date(data, SCHEMA, MIGRATIONS, source), source)


def write(history: History, path: Path) -> None:
    """Write a history atomically."""
    data = {"schema": SCHEMA, **encode(history)}
    parts = []
    for name, value in data.items():
        items = ",\n".join(json.dumps(item, allow_nan=False) for item in value) if isinstance(value, list) else ""
        parts.append(f'"{name}": ' + (f"[\n{items}\n]" if items else json.dumps(value)))
    write_atomically(path, "{\n" + ",\n".join(parts) + "\n}\n")


def continued(path: Path, options: Sequence[str], stages: Sequence[Stage]) -> History:
    """Return the history in a file with `stages` as its states; a new history if there is no file.

    A file without a finished step binds nobody to its options, which may be what made its steps fail.

    Raises:
        UserError: the file is no history, or has other options.
    """
    new = History(tuple(options), tuple(stages))
    if not path.exists():
        return new
    found = read(path)
    if found.options != new.options and all(step.comparison is None for step in found.steps):
        return new
    if found.options != new.options:
        raise UserError(
            f"{path}: was made with other options ({' '.join(found.options) or 'none'}): give the same ones, "
            "or another --output"
        )
    return replace(found, stages=tuple(stages))
