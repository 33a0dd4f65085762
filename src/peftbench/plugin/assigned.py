"""The settings of a child: those of its assignment, without options that write the user's files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from peftbench.config.options import flag_name
from peftbench.config.settings import options

if TYPE_CHECKING:
    import pytest

    from peftbench.processes.launches.assignment import Assignment

ASSIGNMENT: Final = "assignment"
"""Option that names the file of an assignment (`processes.launches.assignment.OPTION`); it is not in the help."""
DESTINATION: Final = f"peftbench_{ASSIGNMENT}"
PARENT_ONLY: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "basetemp": None,
        "xmlpath": None,
        "log_file": os.devnull,  # None stands for the value of the ini file
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
"""Option of pytest or a known plugin that writes files, selects by the last run or waits for input -> child's value."""


def assignment(path: str) -> Assignment:
    """Read the assignment that a parent wrote; raises UserError for any other file."""
    from peftbench.processes.launches.assignment import Assignment

    return Assignment.read(Path(path))


def quieten(config: pytest.Config) -> None:
    """Switch off the options that only the parent follows. This runs before other plugins read their options."""
    for name, value in PARENT_ONLY.items():
        if hasattr(config.option, name):
            setattr(config.option, name, value)


def without_parents(arguments: Iterable[str]) -> list[str]:
    """Return a command line without options for the parent only, which a child of an older revision may not know."""
    valued = {flag_name(name): not option.flag for name, option in options().items() if option.parent}
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, _ = word.partition("=")
        if name not in valued:
            kept.append(word)
        elif valued[name] and not equals:
            next(words, None)  # skip its value
    return kept


def sources(found: Sequence[Mapping[str, object]], own: Assignment) -> list[Mapping[str, object]]:
    """Return the sources of a child's settings, the strongest first.

    Args:
        found: Sources of the command line and the files, the strongest first.
        own: The assignment, which wins over them.
    """
    told = {"json": str(own.run_file), "resume": "true" if own.resume else None}
    if own.device:
        told["device"] = own.device
    if own.socket is not None:
        told["reference"] = "none"  # rounds of the other state are the reference
    of_parent = {name for name, option in options().items() if option.parent}
    followed = [{name: value for name, value in source.items() if name not in of_parent} for source in found]
    return [told, *followed]
