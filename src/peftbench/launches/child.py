"""What is different in a child process: it runs its own cases only, and leaves the user's files to the parent."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pytest

    from peftbench.launches.assignment import Assignment

OPTION: Final = "--peftbench-assignment"
"""Names the file that tells a child process what to do; not in the help."""
DESTINATION: Final = "peftbench_assignment"
OTHERS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "basetemp": None,
        "xmlpath": None,
        "log_file": os.devnull,  # None would be that of the ini file
        "pastebin": None,
        "report_log": None,
        "json_report": False,
        "htmlpath": None,
        "usepdb": False,
        "lf": False,
        "failedfirst": False,
        "newfirst": False,
        "stepwise": False,
        "stepwise_skip": False,
        "stepwise_reset": False,
        "benchmark_json": None,
        "benchmark_save": None,
        "benchmark_autosave": None,
        "benchmark_compare": None,
        "benchmark_compare_fail": None,
        "benchmark_histogram": [],
    }
)
"""Options of pytest and well-known plugins that write files, select by the last run, or wait for a person."""
PARENTS: Final = frozenset(
    {
        "json",
        "resume",
        "launches",
        "launch_timeout",
        "record",
        "gate",
        "against",
        "candidate",
        "bisect",
        "pairs",
        "strict",
        "diff_json",
        "bencher_json",
        "action_json",
        "shard",
        "gpus",
    }
)
"""Settings that a parent follows, and its children do not."""


def assignment(path: str) -> Assignment:
    """Read what a parent wrote; raises UserError for any other file."""
    from peftbench.launches.assignment import Assignment

    return Assignment.read(Path(path))


def quieten(config: pytest.Config) -> None:
    """Switch off what only the parent's run is to do; called before other plugins look at their options."""
    for name, value in OTHERS.items():
        if hasattr(config.option, name):
            setattr(config.option, name, value)


def without_parents(arguments: Iterable[str]) -> list[str]:
    """Return a command line without the options that a parent follows: an older revision need not know them."""
    from peftbench.settings import flag_name, options

    valued = {flag_name(name): not options()[name].flag for name in PARENTS}
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, _ = word.partition("=")
        if name not in valued:
            kept.append(word)
        elif valued[name] and not equals:
            next(words, None)  # its value
    return kept


def sources(found: Sequence[Mapping[str, object]], own: Assignment) -> list[Mapping[str, object]]:
    """Return the sources of a child's settings, most important first."""
    told = {"json": str(own.run_file), "resume": "true" if own.resume else None}
    if own.device:
        told["device"] = own.device
    if own.socket is not None:
        told["reference"] = "none"  # the other state's rounds are the reference
    followed = [{name: value for name, value in source.items() if name not in PARENTS} for source in found]
    return [told, *followed]


def whole_files(config: pytest.Config) -> list[str]:
    """Return the files and folders that are named and exist, without the tests that are named in them."""
    if config.option.pyargs:
        return config.args
    files = dict.fromkeys(argument.partition("::")[0] for argument in config.args)
    return [file for file in files if (config.invocation_params.dir / file).exists()]


def divide(items: Sequence[pytest.Item], nodes: Collection[str]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Return the items that are among `nodes`, and the others."""
    own = set(nodes)
    return [item for item in items if item.nodeid in own], [item for item in items if item.nodeid not in own]
