"""Checks that git shows baselines by `peftbench show --textconv`, so that `git diff baselines/` is readable."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

from peftbench.processes.git import GitError, answer, git

DRIVER: Final = "peftbench"
ATTRIBUTE: Final = f"baselines/*.json diff={DRIVER}"
"""Line of .gitattributes, which is committed."""
KEY: Final = f"diff.{DRIVER}.textconv"
COMMAND: Final = f'git config {KEY} "peftbench show --textconv"'
"""Command that each clone needs, because git takes no command from a committed file."""

CONFIGURATIONS: Final = ("baselines", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg", "setup.py")
"""What stands in the root directory of pytest, in which `baselines/` is."""


def project(folder: Path) -> Path:
    """Return the nearest folder, from `folder` upwards, that looks like the root directory of pytest; or `folder`."""
    upwards = (folder, *folder.resolve().parents)
    return next((place for place in upwards if any((place / name).exists() for name in CONFIGURATIONS)), folder)


def readable_diffs(folder: Path) -> list[str]:
    """Return a line for each thing that is missing, or one line that says that nothing is; none outside a repository.

    Args:
        folder: A folder in the work tree. `baselines/` is, or will be, in it.
    """
    try:
        found = git(folder, "check-attr", "diff", "--", "baselines/x.json")
    except GitError:
        return []
    lines = []
    if found.rpartition(": ")[2] != DRIVER:
        lines.append(f"- `git diff baselines/` shows raw lines: echo {shlex.quote(ATTRIBUTE)} >> .gitattributes")
    if not answer(folder, "config", "--get", KEY):
        lines.append(f"- `git diff baselines/` shows raw lines in this clone: {COMMAND}")
    return lines or ["`git diff baselines/` is readable here: .gitattributes and git config are set"]
