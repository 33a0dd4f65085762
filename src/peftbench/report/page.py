"""A page for the terminal, and streams of any encoding that it is written to."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TextIO

from peftbench.text import READABLE

if TYPE_CHECKING:
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


@contextmanager
def readable(*streams: TextIO) -> Iterator[None]:
    """Within the context, what a stream's encoding lacks is written in ASCII to it, and no error; then as before."""
    with ExitStack() as stack:
        for stream in streams:
            if isinstance(stream, io.TextIOWrapper):
                stack.callback(stream.reconfigure, errors=stream.errors)
                stream.reconfigure(errors=READABLE)
        yield
