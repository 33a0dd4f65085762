"""What is to be known of a run besides its records: where its seconds went, and what could not be read again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

from peftbench.plugin.screen import write_line
from peftbench.text import visible

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from peftbench.records.journal import Journal
    from peftbench.records.record import Record


def run_notes(records: Iterable[Record]) -> dict[str, Any]:
    """Return the seconds that each pass took over all records, and how busy the machine is now."""
    from peftbench.devices.environment import noise

    passes: dict[str, float] = {}
    for name, seconds in chain.from_iterable(record.passes_s.items() for record in records):
        passes[name] = passes.get(name, 0.0) + seconds
    return {"passes_s": passes, "noise": noise()}


def provenance(folder: Path) -> dict[str, str]:
    """Return when a run ended and which commit it measured, as far as that is known.

    Args:
        folder: Root folder of the project.
    """
    from peftbench.processes.git import checked_out, committed

    found = {
        "measured": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": checked_out(folder, tagged=True),
        "committed": committed(folder),
    }
    return {name: visible(value) for name, value in found.items() if value}


def tell_of_broken(config: pytest.Config, journal: Journal) -> None:
    """Print which lines of a resumed journal cannot be read."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if journal.broken and reporter is not None:
        lines = ", ".join(map(str, journal.broken))
        write_line(reporter, f"peftbench: lines of the journal cannot be read, and are measured again: {lines}")
