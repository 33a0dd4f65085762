"""The commands of `peftbench`. Each command has a module.

They may import every other room except the plugin.
"""

from __future__ import annotations

from typing import Final

COMMANDS: Final = (
    *("compare", "accept", "claims", "recommend", "list", "merge", "show", "report", "site", "history", "doctor"),
)
"""Modules of this package, in the order of `peftbench --help`."""
