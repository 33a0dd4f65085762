"""What a parent tells a child process to do: a small file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final, Self

from peftbench.records.fileio import read_json, write_atomically
from peftbench.records.jsondata import decode, encode

OPTION: Final = "--peftbench-assignment"
"""Names the file that tells a child process what to do; not in the help."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What a child process is to do."""

    session: str
    """Date and a random word, the same for launches made together."""
    nodes: tuple[str, ...]
    """Node ids of the cases that are its own; it leaves out all other items."""
    folder: str
    """Where its journal and its run file go."""
    resume: bool = False
    """Whether finished cases are taken from a journal that is there already."""
    parent: int = 0
    """Process id of who waits for it; 0: not told, by an earlier revision."""
    device: str = ""
    """In place of the user's --peftbench-device."""
    socket: int | None = None
    """File descriptor over which a parent asks for rounds in lock-step; None: measure on its own."""
    avoid: str = ""
    """Folder of another state of the code, from which nothing may be imported."""
    worktree: str = ""
    """Folder of this state's own sources, which may lie in that one."""

    @property
    def journal(self) -> Path:
        """Finished records, one by one."""
        return Path(self.folder) / "journal.jsonl"

    @property
    def run_file(self) -> Path:
        """The whole run, when it has ended."""
        return Path(self.folder) / "run.json"

    def write(self) -> Path:
        """Write it into its folder; return the file."""
        path = Path(self.folder) / "assignment.json"
        write_atomically(path, json.dumps(encode(replace(self, parent=os.getpid()))))
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read it back, without what a later revision's parent may have added; raises UserError for any other file."""
        data = read_json(path)
        if isinstance(data, Mapping):
            known = {item.name for item in fields(cls)}
            data = {name: value for name, value in data.items() if name in known}
        return decode(cls, data, str(path))
