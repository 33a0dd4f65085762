"""Ends a pytest run after a mistake of the user, with one line and pytest's exit status for usage errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from peftbench.errors import UserError
from peftbench.plugin.assigned import DESTINATION
from peftbench.plugin.screen import write_line
from peftbench.text import on_terminal


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn a UserError or an OSError into pytest's UsageError, which is one line with an exit status."""
    try:
        yield
    except (UserError, OSError) as error:
        raise pytest.UsageError(f"peftbench: {on_terminal(str(error))}") from error


@contextmanager
def reported_at_the_end(session: pytest.Session) -> Iterator[None]:
    """Report a file that cannot be written as one line, since an exception here would suppress pytest's summary.

    The exit status is that of a usage error; in a child it is that of an internal error, so that only its launch is
    lost.
    """
    try:
        yield
    except (UserError, OSError) as error:
        launched = session.config.getoption(DESTINATION)
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR if launched else pytest.ExitCode.USAGE_ERROR
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            write_line(reporter, f"ERROR: peftbench: {on_terminal(str(error))}", red=True)
