"""A page for the terminal, and how it gets there: pytest's reporter, or a stream of any encoding."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TextIO

from peftbench.text import READABLE, fitted

if TYPE_CHECKING:
    import pytest
    from rich.console import Console


def page(*, width: int, color: bool = False) -> Console:
    """Return an empty page, whose text is taken as it stands: no markup, no emoji codes. `written` returns it."""
    from rich.console import Console

    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=color,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
    )


def written(console: Console) -> str:
    """Return what stands on a page, without blanks at the ends of lines."""
    assert isinstance(console.file, io.StringIO)  # noqa: S101 - for the type checker: `page` made it
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


def write(reporter: pytest.TerminalReporter, text: str) -> None:
    """Write a page by pytest's reporter, as its terminal can show it."""
    reporter.write(fitted(text, _encoding(reporter)))


def write_line(reporter: pytest.TerminalReporter, line: str, **markup: bool) -> None:
    """Write a line by pytest's reporter, as its terminal can show it."""
    reporter.write_line(fitted(line, _encoding(reporter)), **markup)


def _encoding(reporter: pytest.TerminalReporter) -> str:
    """Return the encoding of pytest's terminal; pytest has no public name for its stream."""
    stream = getattr(reporter.config.get_terminal_writer(), "_file", None)
    return getattr(stream, "encoding", None) or "utf-8"


@contextmanager
def readable(*streams: TextIO) -> Iterator[None]:
    """Within the context, what a stream's encoding lacks is written in ASCII to it, and no error; then as before."""
    with ExitStack() as stack:
        for stream in streams:
            if isinstance(stream, io.TextIOWrapper):
                stack.callback(stream.reconfigure, errors=stream.errors)
                stream.reconfigure(errors=READABLE)
        yield
