"""Which files are sources of a checkout: what the other state of the code takes from its own work tree."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

PACKAGES: Final = frozenset({"site-packages", "dist-packages"})
"""Folders of installed packages, which all states share, wherever the environment lies."""


def place(path: str | Path, checkout: Path, worktree: Path | None = None) -> Path | None:
    """Return where in a checkout one of its sources lies, or None if it is something else; links are followed.

    Environments are no sources, though they may lie in the checkout; nor is the other state's work tree, which does
    if the cache folder does.

    Args:
        path: A source lies here, if this is absolute.
        checkout: The user's.
        worktree: The other state's.
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
