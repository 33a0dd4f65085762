"""Whether `git diff baselines/` is readable here: what `peftbench show --textconv` needs git to know."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

from peftbench.processes.git import GitError, answer, git

DRIVER: Final = "peftbench"
ATTRIBUTE: Final = f"baselines/*.json diff={DRIVER}"
"""A line of .gitattributes, which is committed."""
KEY: Final = f"diff.{DRIVER}.textconv"
COMMAND: Final = f'git config {KEY} "peftbench show --textconv"'
"""What each clone needs besides: git takes no command from a file that is committed."""


def readable_diffs(folder: Path) -> list[str]:
    """Return what is missing, a line each, or one line that says that nothing is; none outside a repository.

    Args:
        folder: One in the work tree, in which `baselines/` is, or will be.
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
