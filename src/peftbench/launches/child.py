"""What is different in a child process: it runs its own cases only, and leaves the user's files to the parent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pytest

    from peftbench.launches.assignment import Assignment

PARENTS_AFFAIR: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "xmlpath": None,
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
"""Options of pytest and pytest-benchmark that write files, select by the last run, or wait for a person."""
OUR_AFFAIR: Final = frozenset(
    {
        "json",
        "resume",
        "launches",
        "launch_timeout",
        "record",
        "gate",
        "against",
        "strict",
        "diff_json",
        "bencher_json",
        "action_json",
        "shard",
        "gpus",
    }
)
"""Settings that a parent follows, and its children do not."""


def quieten(config: pytest.Config) -> None:
    """Switch off what only the parent's run is to do; called before other plugins look at their options."""
    for name, value in PARENTS_AFFAIR.items():
        if hasattr(config.option, name):
            setattr(config.option, name, value)


def without_parents_affair(source: Mapping[str, object]) -> dict[str, object]:
    """Return a source of settings without those that a child does not follow."""
    return {name: value for name, value in source.items() if name not in OUR_AFFAIR}


def divide(
    items: Sequence[pytest.Item], assignment: Assignment
) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Return the items that are the child's own, and the others."""
    own = set(assignment.nodes)
    return [item for item in items if item.nodeid in own], [item for item in items if item.nodeid not in own]
