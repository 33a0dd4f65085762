"""The files that a page shows, each with a name for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from peftbench.errors import UserError
from peftbench.gate.snapshot import Snapshot
from peftbench.records.fileio import read_text
from peftbench.records.history import History
from peftbench.records.record import Run
from peftbench.report.contents import content_of
from peftbench.report.diffs import Diff

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NamedFile(Generic[T]):
    """The content of a file, with a name that no other file of the page has."""

    name: str
    content: T


@dataclass(frozen=True, slots=True)
class Sources:
    """The contents of the files that a page shows."""

    runs: tuple[NamedFile[Run], ...] = ()
    comparisons: tuple[NamedFile[Diff], ...] = ()
    baselines: tuple[NamedFile[Snapshot], ...] = ()
    histories: tuple[NamedFile[History], ...] = ()


def read_sources(paths: Sequence[Path]) -> Sources:
    """Return the contents of files: runs, journals, comparisons, baselines and histories.

    Raises:
        UserError: a file is given twice, cannot be read, or is of another kind; says which and what to do.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("a file is given twice")
    found = [(name, content_of(read_text(path), path)) for name, path in zip(_names(paths), paths, strict=True)]
    return Sources(
        runs=tuple(NamedFile(name, one) for name, one in found if isinstance(one, Run)),
        comparisons=tuple(NamedFile(name, one) for name, one in found if isinstance(one, Diff)),
        baselines=tuple(NamedFile(name, one) for name, one in found if isinstance(one, Snapshot)),
        histories=tuple(NamedFile(name, one) for name, one in found if isinstance(one, History)),
    )


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the names of the files. A page names a folder only where two files are called alike."""
    names = [path.name for path in paths]
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]
