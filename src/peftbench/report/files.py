"""The files of a run that were asked for: ours, and those of other programs."""

from __future__ import annotations

from pathlib import Path

from peftbench.baseline.snapshot import snapshot_of
from peftbench.fileio import write_atomically
from peftbench.record import Run
from peftbench.report import exports
from peftbench.runfile import save_run
from peftbench.settings import Settings


def write_run(run: Run, settings: Settings, run_file: Path | None) -> None:
    """Write a run to each file that was asked for; raises UserError if one cannot be written."""
    if run_file is not None:
        save_run(run, run_file)
    if settings.bencher_json:
        write_atomically(settings.bencher_json, exports.to_bencher(snapshot_of(run)))
    if settings.action_json:
        write_atomically(settings.action_json, exports.to_action_benchmark(snapshot_of(run)))
