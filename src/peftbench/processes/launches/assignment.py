"""The file by which a parent tells a child what to do."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final, Self

from peftbench.config.options import flag_name
from peftbench.records.fileio import read_json, write_atomically
from peftbench.records.jsondata import decode, encode

OPTION: Final = flag_name("assignment")
"""Option that names the file of an assignment. It is not in the help."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What a child has to do."""

    session: str
    """Date and a random word, the same for launches made together."""
    nodes: tuple[str, ...]
    """Node ids of the cases to run. The child leaves out all other items."""
    known: tuple[str, ...] = ()
    """Node ids of cases of which only the time is taken, because an earlier process has taken the other passes."""
    folder: str
    """Folder for its journal and its run file."""
    resume: bool = False
    """Whether finished cases are taken from an existing journal."""
    parent: int = 0
    """Process id of the parent; 0 if a parent of an earlier revision does not give it."""
    device: str = ""
    """Device that replaces the user's --peftbench-device; empty if none does."""
    socket: int | None = None
    """File descriptor over which the parent asks for rounds in lock-step; None for an ordinary launch."""
    avoid: str = ""
    """Folder of another state of the code, from which nothing may be imported."""
    worktree: str = ""
    """Folder of this state's own sources, which may lie inside `avoid`."""

    @property
    def journal(self) -> Path:
        """File to which each finished record is added."""
        return Path(self.folder) / "journal.jsonl"

    @property
    def run_file(self) -> Path:
        """File of the whole run, written at its end."""
        return Path(self.folder) / "run.json"

    def write(self) -> Path:
        """Write the assignment into its folder, with this process as parent; return the file."""
        path = Path(self.folder) / "assignment.json"
        write_atomically(path, json.dumps(encode(replace(self, parent=os.getpid()))))
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read an assignment; raises UserError for any other file. Fields of later revisions are ignored."""
        data = read_json(path)
        if isinstance(data, Mapping):
            known = {item.name for item in fields(cls)}
            data = {name: value for name, value in data.items() if name in known}
        return decode(cls, data, str(path))
