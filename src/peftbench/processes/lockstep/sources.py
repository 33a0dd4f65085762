"""Tells which files are sources of a checkout. Each state takes its sources from its own work tree."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

PACKAGES: Final = frozenset({"site-packages", "dist-packages"})
"""Names of folders of installed packages. All states share these packages, wherever the environment lies."""


def place(path: str | Path, checkout: Path, worktree: Path | None = None) -> Path | None:
    """Return the path of a source relative to its checkout, or None if a path is no source. Links are followed.

    Files of environments are no sources, even inside the checkout. Nor are files of the other state's work tree, which
    lies inside the checkout if the cache folder does.

    Args:
        path: The path. A relative path is no source.
        checkout: The user's checkout.
        worktree: Work tree of the other state.
    """
    if not Path(path).is_absolute():
        return None
    found, root = Path(path).resolve(), checkout.resolve()
    if not found.is_relative_to(root):
        return None
    within = found.relative_to(root)
    others = [Path(other).resolve() for other in (sys.prefix, sys.base_prefix, worktree) if other is not None]
    apart = any(root in other.parents and found.is_relative_to(other) for other in others)
    return None if apart or PACKAGES.intersection(within.parts) else within
