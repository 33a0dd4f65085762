"""`peftbench compare` gives each case of two files a verdict, and exits with 1 if a verdict fails."""

from __future__ import annotations

import argparse
import errno
import gc
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from peftbench.commands.arguments import add_keyword, add_rule, rule_of
from peftbench.config.places import folder_of, is_there
from peftbench.errors import UserError
from peftbench.gate.verdict import Comparison, Verdict, parse_fail_on

if TYPE_CHECKING:
    from peftbench.commands.arguments import Subparsers
    from peftbench.gate.snapshot import Snapshot

FORMATS: Final = ("table", "markdown", "json", "github", "bencher", "action-benchmark")


def add_parser(commands: Subparsers) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "compare",
        help="compare two files, and give each case a verdict",
        description="Compare two runs, or a run with a baseline. Exit status: 0 passed, 1 failed (--fail-on), 2 error.",
        usage="%(prog)s [options] BASE NEW",
    )
    parser.add_argument(
        "base",
        type=Path,
        help="the old side: a baseline, a run, or a folder of baselines, of which the fitting one is read",
    )
    parser.add_argument("new", type=Path, help="the new side: a run")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="table",
        help="markdown: for $GITHUB_STEP_SUMMARY; github: annotations; bencher, action-benchmark: the numbers of NEW",
    )
    parser.add_argument(
        "--fail-on",
        default="regressed",
        metavar="LIST",
        help="verdicts that fail, comma-separated; or none; or strict (regressed, inconclusive, missing, "
        "not-comparable); default: regressed",
    )
    parser.add_argument(
        "--under-test",
        default="",
        metavar="LIST",
        help="entries of the fingerprint that may differ, because they are what is compared: peft,transformers",
    )
    parser.add_argument("--all", action="store_true", help="also list unchanged cases (table only)")
    add_keyword(parser)
    add_rule(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison; return 1 if it fails."""
    with _no_garbage_collection():
        return _compared(arguments)


def _compared(arguments: argparse.Namespace) -> int:
    """Print the comparison. All cases are gone when this returns, so that no collection walks through them."""
    from peftbench.gate.compare import compare
    from peftbench.gate.keyword import matcher
    from peftbench.gate.load import load_snapshot

    fail_on, rule = parse_fail_on(arguments.fail_on), rule_of(arguments)
    matches = matcher(arguments.keyword)
    under_test = [word.strip() for word in arguments.under_test.split(",") if word.strip()]
    new = load_snapshot(arguments.new)
    base = _base(arguments.base, new)
    comparison = compare(base, new, rule, under_test=under_test)
    if arguments.keyword:
        comparison, new = comparison.select(matches), new.select(matches)
    sys.stdout.write(_render(comparison, new, arguments, fail_on))
    sys.stdout.flush()
    return 1 if comparison.failing(fail_on) else 0


def _base(path: Path, new: Snapshot) -> Snapshot:
    from peftbench.gate.load import load_snapshot
    from peftbench.gate.store import find

    folder = folder_of(str(path))
    if folder is None:
        if not is_there(path):
            problem = os.strerror(errno.ENOENT)
            raise UserError(f"{path}: cannot be read: {problem}; `peftbench accept` makes a first baseline of a run")
        return load_snapshot(path)
    found = find(folder, new.fingerprint, new.settings)
    if found is None:
        raise UserError(f"{path}: holds no baseline with the settings of this run; `peftbench accept` makes one")
    return found.baseline


def _render(comparison: Comparison, new: Snapshot, arguments: argparse.Namespace, fail_on: frozenset[Verdict]) -> str:
    from peftbench.report import comparison as terminal
    from peftbench.report import exports, markdown

    if arguments.format == "markdown":
        return markdown.render(comparison, fail_on=fail_on)
    if arguments.format == "json":
        return exports.to_json(comparison, fail_on=fail_on)
    if arguments.format == "github":
        return exports.github_annotations(comparison, fail_on=fail_on)
    if arguments.format == "bencher":
        return exports.to_bencher(new)
    if arguments.format == "action-benchmark":
        return exports.to_action_benchmark(new)
    return terminal.render(
        comparison,
        fail_on=fail_on,
        width=shutil.get_terminal_size((120, 24)).columns,
        everything=arguments.all,
        color=sys.stdout.isatty() and "NO_COLOR" not in os.environ,
    )


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Switch off garbage collection, which takes half of the time with many cases. They hold no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
