"""Writes on pytest's terminal in any encoding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftbench.text import fitted

if TYPE_CHECKING:
    import pytest


def write(reporter: pytest.TerminalReporter, text: str) -> None:
    """Write a text with pytest's reporter, in characters that its terminal can show."""
    reporter.write(shown(reporter, text))


def write_line(reporter: pytest.TerminalReporter, line: str, **markup: bool) -> None:
    """Write a line with pytest's reporter, in characters that its terminal can show.

    It begins a line of its own. Under -q pytest's reporter does not know that its line of dots has not ended.
    """
    reporter.ensure_newline()
    if reporter.config.get_terminal_writer().width_of_current_line:
        reporter.write("\n")
    reporter.write_line(shown(reporter, line), **markup)


def shown(reporter: pytest.TerminalReporter, text: str) -> str:
    """Return a text in characters that the terminal of pytest's reporter can show."""
    return fitted(text, _encoding(reporter))


def _encoding(reporter: pytest.TerminalReporter) -> str:
    """Return the encoding of pytest's terminal. pytest has no public name for the stream."""
    stream = getattr(reporter.config.get_terminal_writer(), "_file", None)
    return getattr(stream, "encoding", None) or "utf-8"
