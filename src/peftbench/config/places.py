"""Texts that may be paths of folders, or too long for any, or words."""

from __future__ import annotations

import os
from pathlib import Path


def folder_of(text: str) -> Path | None:
    """Return the folder that a text is the path of, None if there is none; `~` is the user's own folder."""
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # the folder of a user that there is not
        return None
    return path if os.path.isdir(path) else None  # noqa: PTH112 - a path too long for the system is no folder either


def is_there(path: Path) -> bool:
    """Tell whether there is a file or folder of a path, be it too long for the system."""
    return os.path.lexists(path)


def is_path(text: str) -> bool:
    """Tell whether a text can only be a path, never a word."""
    return os.sep in text or "/" in text or text.startswith(("~", "."))
