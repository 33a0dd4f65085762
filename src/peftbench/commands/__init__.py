"""The command line, a module a command.

It may import every other room but the plugin.
"""

from __future__ import annotations

from typing import Final

COMMANDS: Final = ("compare", "accept", "claims", "recommend", "list", "merge", "show", "history", "doctor")
"""Modules of this package, in the order of `peftbench --help`."""
