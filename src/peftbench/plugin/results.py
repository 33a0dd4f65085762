"""Writes what a run found to the files that the user asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftbench.errors import UserError
from peftbench.report.files import write_run

if TYPE_CHECKING:
    from pathlib import Path

    from peftbench.gate.judgement import Judgement
    from peftbench.plugin.session import BenchSession
    from peftbench.records.record import Run


def write_results(bench: BenchSession) -> None:
    """Write the run to its files, and the page of the run and of its verdicts.

    Raises:
        UserError: a file cannot be written. The others are written nevertheless.
    """
    settings, run = bench.settings, bench.run()
    problems = []
    try:
        write_run(run, bench.run_file, bencher_json=settings.bencher_json, action_json=settings.action_json)
    except UserError as error:
        problems.append(str(error))
    if settings.html is not None:
        try:
            _write_page(run, bench.outcome.judgement if bench.outcome else None, settings.html)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("; ".join(problems))


def _write_page(run: Run, judgement: Judgement | None, path: Path) -> None:
    import json

    from peftbench.pages.page import write_page
    from peftbench.pages.sources import NamedFile, Sources
    from peftbench.report.diffs import read_diff
    from peftbench.report.display import comparison_json

    comparisons = []
    if judgement is not None:
        comparisons.append(NamedFile(judgement.base, read_diff(json.loads(comparison_json(judgement)), judgement.base)))
    write_page(Sources(runs=(NamedFile("this run", run),), comparisons=tuple(comparisons)), path)
