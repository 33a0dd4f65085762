"""The commands of `peftbench`, a module each: `add_parser` describes it, `run` does it and returns the exit status."""

from __future__ import annotations

from typing import Final

COMMANDS: Final = ("compare", "accept", "claims", "recommend", "list", "merge", "show", "history", "doctor")
"""Modules of this package, in the order of `peftbench --help`."""
