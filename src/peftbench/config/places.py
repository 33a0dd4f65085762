"""Tests whether a text that a user gave is a path or a word. The text may be too long for any path."""

from __future__ import annotations

import os
from pathlib import Path


def folder_of(text: str) -> Path | None:
    """Return the folder at a path, or None if there is no folder; `~` is the user's home."""
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # `~name` of an unknown user
        return None
    return path if os.path.isdir(path) else None  # noqa: PTH112 - False, too, for a path that is too long


def is_there(path: Path) -> bool:
    """Tell whether a file or folder exists at a path; False for a path that is too long for the system."""
    return os.path.lexists(path)


def is_path(text: str) -> bool:
    """Tell whether a text can only be a path, and not a word."""
    return os.sep in text or "/" in text or text.startswith(("~", "."))
