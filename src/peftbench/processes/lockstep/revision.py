"""Checks out a git revision outside the user's work tree, and finds its requirements."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from peftbench.errors import UserError
from peftbench.processes.git import GitError, answer, git
from peftbench.processes.launches.process import Command
from peftbench.processes.lockstep.sources import place
from peftbench.records.fileio import locked
from peftbench.records.workfolder import ANOTHER_CACHE, MARK, make_ready
from peftbench.text import visible

_ABSOLUTE: Final = re.compile(r"(?:^|(?<=[=,:])|(?<=^-\w))/[^=,:]*")
"""An absolute path in an argument: alone, after an option, in a list, or before a test's name."""


_LINE: Final = "--format=%H %s"
"""Option with which git prints hash and subject of a commit."""
SHORT: Final = 12
"""Digits of a hash that are shown."""


def _described(line: str) -> tuple[str, str]:
    commit, _, subject = line.partition(" ")
    return commit, visible(subject)


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository with its work tree."""

    root: Path

    @classmethod
    def of(cls, folder: Path) -> Repository:
        """Return the repository that a folder is in; raises GitError if git finds none."""
        return cls(Path(git(folder, "rev-parse", "--show-toplevel")))

    def commit(self, revision: str) -> str:
        """Return the hash of a revision; raises GitError if there is no such revision."""
        try:
            return git(self.root, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
        except GitError as error:
            shallow = answer(self.root, "rev-parse", "--is-shallow-repository") == "true"
            hint = "; this clone is shallow: `git fetch --unshallow` brings the rest" if shallow else ""
            raise GitError(f"{revision!r} is no revision of {self.root} (git: {error}{hint})") from None

    def described(self, commit: str) -> tuple[str, str]:
        """Return a commit with its subject."""
        return _described(git(self.root, "show", "--no-patch", _LINE, commit))

    def commits(self, older: str, newer: str) -> list[tuple[str, str]]:
        """Return the commits after `older` up to `newer` along first parents, the oldest first, with their subjects."""
        lines = git(self.root, "log", "--first-parent", "--reverse", _LINE, f"{older}..{newer}").split("\n")
        return [_described(line) for line in lines if line]

    def checked_out(self, commit: str, cache: Path) -> Path:
        """Return a work tree of a commit in the cache folder, and make it if the cache has none.

        The work tree is a repository of its own, which borrows the objects of this one. Thus nothing is written to this
        repository, neither to its index nor to its list of work trees. Programs that call git in the work tree see the
        commit.

        Raises:
            GitError: git cannot make it.
            UserError: a folder of its name is there that peftbench did not make.
        """
        place = hashlib.sha256(str(self.root).encode()).hexdigest()[:8]
        folder = cache / "worktrees" / f"{self.root.name}-{place}-{commit[:12]}"
        with locked(folder, timeout_s=60.0):
            if answer(folder, "rev-parse", "HEAD^{commit}", "--show-toplevel") != f"{commit}\n{folder.resolve()}":
                make_ready(folder, instead=ANOTHER_CACHE)  # an earlier clone or an interrupted call may have left it
                try:
                    self._fill(folder.resolve(), commit)
                except GitError as error:
                    raise GitError(f"git cannot check out {commit[:12]} in {folder}: {error}") from None
        return folder

    def _fill(self, folder: Path, commit: str) -> None:
        """Write the files, with this repository's filters and line ends, and an index of their own. HEAD is last."""
        own = folder / ".git"
        kind = git(self.root, "rev-parse", "--show-object-format")
        git(folder, "init", "--quiet", "--template=", f"--object-format={kind}", str(folder))
        borrowed = own / "objects/info/alternates"
        borrowed.parent.mkdir(exist_ok=True)
        borrowed.write_text(f"{self._path('objects')}\n", encoding="utf-8")
        (own / "info").mkdir(exist_ok=True)
        (own / "info/exclude").write_text(f"/{MARK}\n", encoding="utf-8")  # the work tree is that of the commit
        if (shallow := self._path("shallow")).exists():
            shutil.copyfile(shallow, own / "shallow")
        git_dir = git(self.root, "rev-parse", "--absolute-git-dir")
        here = (f"--git-dir={git_dir}", f"--work-tree={folder}")
        git(folder, *here, "read-tree", "--reset", "-u", commit, environment={"GIT_INDEX_FILE": str(own / "index")})
        git(folder, "update-ref", "--no-deref", "HEAD", commit)

    def _path(self, name: str) -> Path:
        return self.root / git(self.root, "rev-parse", "--git-path", name)


def moved(command: Command, root: Path, worktree: Path, path: Iterable[str] = ()) -> Command:
    """Return a command as a user would give it in another work tree, with its sources first on the path.

    Entries of `path` inside `root` are replaced by those of the work tree. They may come from PYTHONPATH, from an
    editable installation or from a configuration.

    Args:
        command: How the pytest run is started in `root`.
        root: The user's checkout.
        worktree: The other work tree.
        path: `sys.path` of this process.
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
    """Return the requirements of a work tree's project: its dependencies, and pins that this checkout does not have."""
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
