"""A git revision, checked out beside the user's own files, and what it needs that is not installed here."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from peftbench.errors import UserError
from peftbench.processes.launches.process import Command, last_line
from peftbench.processes.lockstep.sources import place
from peftbench.records.fileio import locked

_ABSOLUTE: Final = re.compile(r"(?:^|(?<=[=,:])|(?<=^-\w))/[^=,:]*")
"""An absolute path in an argument: alone, after an option, in a list, before a test's name."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository with its work tree."""

    root: Path

    @classmethod
    def of(cls, folder: Path) -> Repository | None:
        """Return the repository that a folder is in, if it is in one."""
        found = _git(folder, "rev-parse", "--show-toplevel")
        return cls(Path(found)) if found else None

    def commit(self, revision: str) -> str | None:
        """Return the hash of a revision, or None if there is none of this name."""
        return _git(self.root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")

    def checked_out(self, commit: str, cache: Path) -> Path:
        """Return a work tree of a commit in the cache folder; made if it is not there.

        Raises:
            UserError: git cannot make it.
        """
        place = hashlib.sha256(str(self.root).encode()).hexdigest()[:8]
        folder = cache / "worktrees" / f"{self.root.name}-{place}-{commit[:12]}"
        with locked(folder, timeout_s=60.0):
            if _git(folder, "rev-parse", "HEAD", "--show-toplevel") != f"{commit}\n{folder.resolve()}":
                shutil.rmtree(folder, ignore_errors=True)  # of an earlier clone, or cut short: git refuses to fill it
                _git(self.root, "worktree", "prune")
                done = _run(self.root, "worktree", "add", "--force", "--detach", str(folder), commit)
                if done.returncode:
                    raise UserError(f"git cannot check out {commit[:12]} in {folder}: {last_line(done.stderr)}")
        return folder


def _git(folder: Path, *arguments: str) -> str | None:
    if not folder.is_dir():
        return None
    done = _run(folder, *arguments)
    return done.stdout.strip() if done.returncode == 0 else None


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - git, without a shell
            ["git", *arguments],  # noqa: S607 - the user's git
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise UserError("--peftbench-against needs git for a revision, and there is none on the PATH") from None


def moved(command: Command, root: Path, worktree: Path, path: Iterable[str] = ()) -> Command:
    """Return a command as it would be given in another work tree, with its sources first on the path.

    Whatever of `root` is on this process's path is taken from the work tree instead, whether it came there by
    PYTHONPATH, by an editable installation or by a configuration.

    Args:
        command: How the same is started in `root`.
        root: The user's checkout.
        worktree: The other one.
        path: This process's path.
    """

    def elsewhere(text: str | Path) -> str | None:
        found = place(text, root, worktree)
        return None if found is None else str(worktree / found)

    sources = [found for entry in path if (found := elsewhere(entry))]
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    others = [entry for entry in given if not elsewhere(entry)]
    python, *words = command.arguments
    return replace(
        command,
        arguments=(python, *(_ABSOLUTE.sub(lambda hit: elsewhere(hit[0]) or hit[0], word) for word in words)),
        folder=Path(elsewhere(command.folder) or command.folder),
        environment={**command.environment, "PYTHONPATH": os.pathsep.join(dict.fromkeys([*sources, *others]))},
    )


def requirements(worktree: Path, root: Path) -> list[str]:
    """Return what a work tree's project asks for: its dependencies, and pins that are not those of this checkout."""
    dependencies = _project(worktree).get("dependencies", [])
    ours = set(_pins(root))
    return [*dependencies, *(pin for pin in _pins(worktree) if pin not in ours)]


def _project(folder: Path) -> dict[str, Sequence[str]]:
    path = folder / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        return dict(tomllib.loads(path.read_text(encoding="utf-8")).get("project", {}))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def _pins(folder: Path) -> list[str]:
    path = folder / "constraints.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    stripped = (line.partition("#")[0].strip() for line in lines)
    return [line for line in stripped if line and not line.startswith("-")]
