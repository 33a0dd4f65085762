"""How a mistake of the user ends a pytest run: in one line, with pytest's exit status for it."""

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
    """Turn what is the user's mistake, or the disk's, into pytest's one line and its exit status for it."""
    try:
        yield
    except (UserError, OSError) as error:
        raise pytest.UsageError(f"peftbench: {on_terminal(str(error))}") from error


@contextmanager
def reported_at_the_end(session: pytest.Session) -> Iterator[None]:
    """Tell of a file that cannot be written in one line: raised when a session ends, it would cost pytest's summary.

    It is the user's mistake in the user's own run only: a launch that cannot write its file costs that launch.
    """
    try:
        yield
    except (UserError, OSError) as error:
        launched = session.config.getoption(DESTINATION)
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR if launched else pytest.ExitCode.USAGE_ERROR
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            write_line(reporter, f"ERROR: peftbench: {on_terminal(str(error))}", red=True)
