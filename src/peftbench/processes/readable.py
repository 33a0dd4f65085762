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
