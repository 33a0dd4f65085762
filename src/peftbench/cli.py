"""`peftbench`: what can be done with the files of runs, without running anything."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from peftbench.commands import COMMANDS
from peftbench.errors import PeftbenchError
from peftbench.report.page import readable
from peftbench.text import on_terminal

USAGE_ERROR: Final = 2
"""Exit status of argparse, too; 1 is a comparison that fails."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status; an error of the user or of the system is one line on stderr."""
    with readable(sys.stdout, sys.stderr):
        try:
            try:
                return _main(arguments)
            finally:
                sys.stdout.flush()  # not at the end of Python, where an error is a traceback
        except BrokenPipeError:  # `peftbench ... | head`
            _discard_unwritten()
            return 0
        except OSError as error:
            where = f"{error.filename}" if error.filename else "standard output cannot be written"
            sys.stderr.write(f"peftbench: {on_terminal(f'{where}: {error.strerror or error}')}\n")
            _discard_unwritten()
            return USAGE_ERROR


def _discard_unwritten() -> None:
    """Send what stdout still holds to nowhere, if it cannot be written where it should go."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _main(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="peftbench", description="Compare, accept and report what was measured.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"peftbench.commands.{name}").add_parser(commands)
    parsed = parser.parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except PeftbenchError as error:
        sys.stderr.write(f"peftbench: {on_terminal(str(error))}\n")
        return USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
