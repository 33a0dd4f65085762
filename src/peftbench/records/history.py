"""The file of a history: what was compared with which options, a step a line; written after each step."""

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
"""Version -> the step from its form to the next one's."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A state of the code, in the order of the history."""

    name: str
    """As it was asked for; of a commit in a range, its short hash."""
    identity: str
    """The commit and the requirements: what the name stood for."""
    about: str = ""
    """What a commit in a range says of itself."""
    problem: str = ""
    """Why it is left out: it cannot be installed or checked out."""


@dataclass(frozen=True, slots=True)
class Step:
    """Two neighbouring states in lock-step."""

    base: str
    """Identity of the older one."""
    new: str
    comparison: Mapping[str, Any] | None = None
    """What --peftbench-diff-json wrote; None where nothing was compared."""
    problem: str = ""
    """Why not."""


@dataclass(frozen=True, slots=True)
class History:
    """All of it."""

    options: tuple[str, ...]
    """Of pytest."""
    stages: tuple[Stage, ...]
    steps: tuple[Step, ...] = field(default=())
    """Those that are finished, in the order in which they were; some may be of an earlier, other chain."""

    @property
    def chain(self) -> list[tuple[Stage, Stage]]:
        """The neighbouring states that are to be compared: a state that cannot be had is passed over."""
        return list(pairwise(stage for stage in self.stages if not stage.problem))

    def step(self, base: Stage, new: Stage) -> Step | None:
        """Return the step between two states, if it was tried."""
        pair = base.identity, new.identity
        return next((step for step in self.steps if (step.base, step.new) == pair), None)

    def left(self) -> list[tuple[Stage, Stage]]:
        """Return the neighbouring states that are not compared yet; those that had a problem are tried again."""

        def finished(base: Stage, new: Stage) -> bool:
            step = self.step(base, new)
            return step is not None and step.comparison is not None

        return [pair for pair in self.chain if not finished(*pair)]

    def with_step(self, step: Step) -> History:
        """Return the history with a step, which takes the place of an earlier try."""
        others = [one for one in self.steps if (one.base, one.new) != (step.base, step.new)]
        return replace(self, steps=(*others, step))


def read(path: Path) -> History:
    """Read a history; raises UserError, which says where the file is wrong."""
    return from_json(read_json(path, what_to_do="move it away, to begin anew"), str(path))


def from_json(data: object, source: str) -> History:
    """Read a history from JSON types; raises UserError, which says where it is wrong."""
    return decode(History, bring_up_to_date(data, SCHEMA, MIGRATIONS, source), source)


def write(history: History, path: Path) -> None:
    """Write a history, whole or not at all."""
    data = {"schema": SCHEMA, **encode(history)}
    parts = []
    for name, value in data.items():
        items = ",\n".join(json.dumps(item, allow_nan=False) for item in value) if isinstance(value, list) else ""
        parts.append(f'"{name}": ' + (f"[\n{items}\n]" if items else json.dumps(value)))
    write_atomically(path, "{\n" + ",\n".join(parts) + "\n}\n")


def continued(path: Path, options: Sequence[str], stages: Sequence[Stage]) -> History:
    """Return the history that a file holds, to be taken up with these states; a new one where there is no file.

    Raises:
        UserError: the file is none of ours, or of other options.
    """
    if not path.exists():
        return History(tuple(options), tuple(stages))
    found = read(path)
    if found.options != tuple(options):
        raise UserError(
            f"{path}: was made with other options ({' '.join(found.options) or 'none'}): give the same ones, "
            "or another --output"
        )
    return replace(found, stages=tuple(stages))
