"""Options that several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from peftbench.config.retired import KeepSpelling, refuse_spelled, spellings
from peftbench.errors import UserError
from peftbench.gate.constants import Rule

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it


def add_keyword(parser: argparse.ArgumentParser) -> None:
    """Add -k, with the grammar of pytest."""
    parser.add_argument(
        "-k", dest="keyword", metavar="EXPR", default="", help="only cases whose id matches, as with pytest's -k"
    )


def add_rule(parser: argparse.ArgumentParser) -> None:
    """Add the option for the constants of the gate's rule, and refuse options of earlier versions."""
    parser.add_argument(
        "--gate-rule",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a constant of the gate's rule, such as limit=0.03; may be given several times; `peftbench list rules` "
        "prints all constants",
    )
    parser.add_argument(*spellings("--", of="gate_rule"), dest="retired", action=KeepSpelling, help=argparse.SUPPRESS)


def rule_of(arguments: argparse.Namespace) -> Rule:
    """Return the rule that the arguments give.

    Raises:
        UserError: a constant is unknown or out of range, or is written as in an earlier version.
    """
    if arguments.retired:
        refuse_spelled(arguments.retired, "--")
    try:
        return Rule.read(",".join(arguments.gate_rule))
    except UserError as error:
        raise UserError(f"--gate-rule {error}") from None
