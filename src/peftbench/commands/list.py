"""`peftbench list` prints the installed methods, tasks, models and workloads, and the constants of the gate."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from peftbench.matrix import listing
from peftbench.matrix.ambiguity import of_model
from peftbench.matrix.catalogue import Catalogue
from peftbench.report.numbers import scaled
from peftbench.report.page import page, written
from peftbench.report.table import Column, drawn
from peftbench.text import as_json, on_terminal

if TYPE_CHECKING:
    from peftbench.commands.arguments import Subparsers
    from peftbench.matrix.listing import Description

JSON_HELP: Final = "print JSON, a list of objects"


def add_parser(commands: Subparsers) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "list",
        help="methods, tasks, models or workloads that can be benchmarked, or the constants of the gate's rule",
        description="List what this package and others have installed. What a conftest.py adds is not listed.",
    )
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    methods = kinds.add_parser("methods", help="ways to fine-tune, and what they train of a model")
    methods.add_argument("--model", default="tiny", help="a preset, a local folder or a hub id; default: tiny")
    methods.add_argument("--task", default="nli", help="task whose head the model gets; default: nli")
    methods.add_argument(
        "--no-parameters",
        action="store_true",
        help="do not count the parameters of each method, which takes some seconds",
    )
    others = [
        kinds.add_parser("tasks", help="what is learned"),
        kinds.add_parser("models", help="model presets; local folders and hub ids are also models"),
        kinds.add_parser("workloads", help="what is timed"),
        kinds.add_parser("rules", help="constants of the gate's rule, for --peftbench-gate-rule NAME=VALUE"),
    ]
    for kind in (methods, *others):
        kind.add_argument("--json", action="store_true", help=JSON_HELP)
        kind.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the list."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries warn about what some methods do to a model
        found = _described(arguments)
    if arguments.json:
        text = as_json(found, indent=2)
    else:
        width = shutil.get_terminal_size((120, 24)).columns
        color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        text = _table(_columns(arguments), found, width=width, color=color)
    sys.stdout.write(text)
    return 0


def _described(arguments: argparse.Namespace) -> list[Description]:
    if arguments.kind == "rules":
        return [*listing.rules()]
    catalogue = Catalogue.load()
    if arguments.kind == "methods":
        for line in of_model(arguments.model, catalogue.models):
            sys.stderr.write(f"{on_terminal(line.replace('--peftbench-', '--'))}\n")
        return [*listing.methods(catalogue, arguments.model, None if arguments.no_parameters else arguments.task)]
    kinds = {"tasks": listing.tasks, "models": listing.presets, "workloads": listing.workloads}
    return [*kinds[arguments.kind](catalogue)]


def _columns(arguments: argparse.Namespace) -> Sequence[Column]:
    if arguments.kind != "methods":
        return COLUMNS[arguments.kind]
    counted = [] if arguments.no_parameters else [_parameters("body"), _parameters("head")]
    name, family, *others = COLUMNS["methods"]
    return [name, family, *counted, *others]


def _table(columns: Sequence[Column], found: Sequence[Description], *, width: int, color: bool) -> str:
    console = page(width=width, color=color)
    console.print(drawn(columns, found))
    for description in found:
        if reason := description.get("parameters", {}).get("reason"):
            console.print(on_terminal(f"  {description['name']}: {reason}"))
    return written(console)


def _text(key: str, title: str = "", *, folds: bool = False) -> Column:
    return Column(title or key, lambda description: _shown(description[key]), text=True, folds=folds)


def _number(key: str, title: str) -> Column:
    return Column(title, lambda description: _shown(description[key]))


def _parameters(part: str) -> Column:
    def cell(description: Mapping[str, Any]) -> str:
        count = description["parameters"].get(part)
        return "" if count is None else scaled(count)

    return Column(part, cell)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _tasks(description: Mapping[str, Any]) -> str:
    if not description["not_tasks"]:
        return "all"
    return f"all but {', '.join(description['not_tasks'])}" if description["tasks"] else "none"


COLUMNS: Final[Mapping[str, Sequence[Column]]] = {
    "methods": (
        _text("name", "method"),
        _text("family"),
        _text("mergeable", "merge"),
        Column("tasks", _tasks, text=True, folds=True),
        _text("source", folds=True),
    ),
    "tasks": (
        _text("name", "task"),
        _text("labels", "classes", folds=True),
        _text("metric"),
        _number("max_length", "max tokens"),
        _text("fields", folds=True),
        _text("summary", folds=True),
    ),
    "models": (
        _text("name", "model"),
        _text("architecture"),
        _number("seq_len", "tokens"),
        _text("summary", folds=True),
    ),
    "workloads": (
        _text("name", "workload"),
        _text("default"),
        _text("phases", folds=True),
        _text("summary", folds=True),
    ),
    "rules": (
        _text("name", "constant"),
        _number("default", "default"),
        _text("meaning", folds=True),
    ),
}
