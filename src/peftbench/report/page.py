"""Renders pages of text, and writes them to streams of any encoding."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TextIO

from peftbench.text import READABLE

if TYPE_CHECKING:
    from rich.console import Console


def page(*, width: int, color: bool = False) -> Console:
    """Return an empty page. Its text is taken literally, without markup and emoji codes. `written` returns the text."""
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
    """Return the text of a page, without blanks at the ends of lines."""
    assert isinstance(console.file, io.StringIO)  # noqa: S101 - for the type checker: `page` made it
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


@contextmanager
def readable(*streams: TextIO) -> Iterator[None]:
    """Within the context, characters that a stream's encoding lacks are written in ASCII, and raise no error."""
    with ExitStack() as stack:
        for stream in streams:
            if isinstance(stream, io.TextIOWrapper):
                stack.callback(stream.reconfigure, errors=stream.errors)
                stream.reconfigure(errors=READABLE)
        yield
