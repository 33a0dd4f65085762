"""Writes a run to the files that the user asked for: the run file, and files for other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from peftbench.errors import UserError
from peftbench.gate.snapshot import snapshot_of
from peftbench.records.fileio import write_atomically
from peftbench.records.record import Run
from peftbench.records.runfile import save_run
from peftbench.report import exports


def write_run(
    run: Run, run_file: Path | None, *, bencher_json: Path | None = None, action_json: Path | None = None
) -> None:
    """Write a run to each file that is not None; raises UserError at the end if a file cannot be written."""
    writers: list[tuple[Path | None, Callable[[Path], None]]] = [
        (run_file, lambda path: save_run(run, path)),
        (bencher_json, lambda path: write_atomically(path, exports.to_bencher(snapshot_of(run)))),
        (action_json, lambda path: write_atomically(path, exports.to_action_benchmark(snapshot_of(run)))),
    ]
    problems = []
    for path, write in writers:
        if path is not None:
            try:
                write(path)
            except UserError as error:
                problems.append(str(error))
    if problems:
        raise UserError("; ".join(problems))
