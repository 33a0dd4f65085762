"""The end of a run on the terminal: blocks of results, pytest-benchmark's tables, and then the answer."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from peftbench.plugin.screen import write, write_line
from peftbench.text import on_terminal

if TYPE_CHECKING:
    import pytest

    from peftbench.plugin.session import BenchSession

MOST_BLOCKS: Final = 6
"""Most blocks that are printed without -v, if a file holds the records."""
SHOWING: Final = ("sort", "group-by", "columns", "name", "time-unit", "histogram", "csv", "verbose")
WRITING: Final = ("json", "save", "save-data", "autosave", "compare", "compare-fail", "cprofile")
ASKING: Final = tuple(f"--benchmark-{name}" for name in (*SHOWING, *WRITING))
"""Options of pytest-benchmark that ask for its output, or begin with the name of one that does."""


class Conclusion:
    """What is printed of one run, in two parts: before the tables of other plugins, and after them."""

    def __init__(self, bench: BenchSession, reporter: pytest.TerminalReporter, *, launched: bool) -> None:
        """Keep the arguments.

        Args:
            bench: The session, with at least one record.
            reporter: Pytest's reporter.
            launched: Whether this is a child, whose parent gives the answer.
        """
        from peftbench.report.answer import Answer

        self._bench = bench
        self._reporter = reporter
        self._config = reporter.config
        self._launched = launched
        self._answer = Answer(bench.run())
        self._blocks = self._answer.blocks
        many = self._blocks > MOST_BLOCKS and reporter.verbosity <= 0
        self._file = _kept(bench) if many and not launched else None

    def before(self) -> None:
        """Print the blocks, unless they are folded; leave out tables of pytest-benchmark that nobody asked for."""
        if self._file is None:
            from peftbench.report.terminal import render

            self._reporter.section("peftbench")
            write(self._reporter, render(self._answer.run, width=self._width, color=self._reporter.hasmarkup))
        leave_out_tables(self._config, ours=self._bench.settings.tables)

    def after(self) -> None:
        """Print the answer. A child prints none."""
        text = self._answer.render(width=self._width, color=self._reporter.hasmarkup, folded=self._file is not None)
        if self._launched or not text:
            return
        self._reporter.section("peftbench: the answer")
        write(self._reporter, text)
        if self._file is not None:
            shown = shlex.join(["peftbench", "show", _relative(self._file, self._config.invocation_params.dir)])
            line = f"{self._blocks} tables are folded: -v prints them; {on_terminal(shown)} prints each case"
            write_line(self._reporter, line)

    @property
    def _width(self) -> int:
        return self._config.get_terminal_writer().fullwidth


def _kept(bench: BenchSession) -> Path | None:
    """Return the file that holds the records at the end: the run file, or else the journal; None if there is none."""
    journal = None if bench.outcome is not None else bench.work / "journal.jsonl"
    return next((file for file in (bench.run_file, journal) if file is not None and file.is_file()), None)


def asks_for_tables(config: pytest.Config) -> bool:
    """Tell whether the command line or the ini file has an option for pytest-benchmark's output."""
    words = [*config.getini("addopts"), *shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))]
    words += map(str, config.invocation_params.args)
    return any(word.partition("=")[0] in ASKING or word.startswith("--benchmark-cprofile") for word in words)


def leave_out_tables(config: pytest.Config, *, ours: str | None) -> None:
    """Drop cases from the tables of pytest-benchmark. Benchmarks that are no cases stay.

    Args:
        config: Configuration of pytest.
        ours: `ours` drops all cases, `both` only studies, which have a single round. None stands for `both` if an
            option of pytest-benchmark asks for output, else for `ours`.
    """
    session = getattr(config, "_benchmarksession", None)
    groups: Sequence[tuple[str, Sequence[dict[str, Any]]]] | None = getattr(session, "groups", None)
    if session is None or not groups:
        return
    every = ours == "ours" or (ours is None and not asks_for_tables(config))
    session.groups = list(_without_cases(groups, every=every))
    if not session.groups:  # its own summary then does nothing, and would not report a regression
        session.check_regressions()


def _without_cases(
    groups: Sequence[tuple[str, Sequence[dict[str, Any]]]], *, every: bool
) -> Iterator[tuple[str, Sequence[dict[str, Any]]]]:
    for name, members in groups:
        kept = [one for one in members if not _is_dropped(one.get("extra_info", {}).get("peftbench"), every=every)]
        if kept:
            yield name, kept


def _is_dropped(record: dict[str, Any] | None, *, every: bool) -> bool:
    return record is not None and (every or bool(record.get("variant")))


def _relative(path: Path, folder: Path) -> str:
    """Return a path as it is typed in a folder."""
    path = path.absolute()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
