"""Options that several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from peftbench.gate.rule import Rule

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it


def add_keyword(parser: argparse.ArgumentParser) -> None:
    """Add -k, with the grammar of pytest."""
    parser.add_argument("-k", dest="keyword", metavar="EXPR", default="", help="only cases whose id matches")


def add_rule(parser: argparse.ArgumentParser) -> None:
    """Add an option for each constant of the gate's rule."""
    group = parser.add_argument_group("the gate's rule (docs/gate.md)")
    for option in Rule.options():
        group.add_argument(
            f"--gate-{option.name}",
            type=option.type,
            metavar="N" if option.type is int else "SHARE",
            help=f"{option.help}; default: {option.default}".replace("%", "%%"),
        )


def rule_of(arguments: argparse.Namespace) -> Rule:
    """Return the rule that was asked for; raises UserError for a value out of range."""
    values = vars(arguments)
    return Rule.from_options(
        {option.name: values[f"gate_{option.name}".replace("-", "_")] for option in Rule.options()}
    )
