"""Pytest's items: which of them are cases, in which order they run, and their ids in records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from peftbench.errors import UserError
from peftbench.plugin.marks import NAME, CaseMark

if TYPE_CHECKING:
    from peftbench.records.ids import Case


class Mode(Enum):
    """What pytest-benchmark's options ask for."""

    MEASURE = auto()
    TRY_ONCE = auto()
    """Each case runs one round, under --benchmark-disable or pytest-xdist."""
    SKIP = auto()


FIXTURE: Final = "peft_case"
"""Name of the fixture of a case."""
CASES: Final = pytest.StashKey[dict[str, "Case"]]()
"""Id of a case, as in the brackets of a test's name -> the case.

An item's parameter is this id and not the case, because pytest-benchmark groups by parameters and writes them as JSON.
"""

BENCHMARKED: Final = pytest.StashKey[set[str]]()
"""Names of the workloads that collected functions measure, whether they are selected or not."""


def remember(config: pytest.Config, cases: Sequence[Case]) -> list[str]:
    """Store cases in `CASES`; return the parameter of each case's item."""
    config.stash.setdefault(CASES, {}).update({case.id: case for case in cases})
    return [case.id for case in cases]


def remember_workload(config: pytest.Config, name: str) -> None:
    """Store in `BENCHMARKED` that a collected function measures a workload."""
    config.stash.setdefault(BENCHMARKED, set()).add(name)


def without_function(config: pytest.Config, wanted: Sequence[str]) -> str:
    """Return a sentence about the workloads that were asked for and that no collected function measures, or ''."""
    from peftbench.matrix.cases import ALL

    lacking = [name for name in wanted if name != ALL and name not in config.stash.get(BENCHMARKED, ())]
    if not lacking:
        return ""
    names = ", ".join(lacking)
    return f"no file that was collected measures {names}: add a benchmark function, @bench({lacking[0]!r})"


def case_of(item: pytest.Item) -> Case | None:
    """Return the case that an item runs; None if it runs none."""
    callspec = getattr(item, "callspec", None)
    words = callspec.params.get(FIXTURE) if callspec else None
    return item.config.stash.get(CASES, {}).get(words) if isinstance(words, str) else None


def arrange(items: Sequence[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Return the items in the order in which they run, and the items of functions that have no case.

    The cases of a group follow each other, whatever their file and function. Groups, and functions within a group, keep
    the order in which they first appear. Other items keep their places.
    """
    dropped = [item for item in items if _has_no_case(item)]
    kept = [item for item in items if not _has_no_case(item)]
    places = [place for place, item in enumerate(kept) if case_of(item)]
    groups: dict[str, list[pytest.Item]] = {}
    for place in places:
        item = kept[place]
        case = case_of(item)
        assert case is not None  # noqa: S101 - for the type checker
        groups.setdefault(case.group, []).append(item)
    ordered = [item for group in groups.values() for item in group]
    for place, item in zip(places, ordered, strict=True):
        kept[place] = item
    return kept, dropped


def planned(items: Sequence[pytest.Item]) -> list[tuple[str, Case]]:
    """Return workload and case of each item that runs a case."""
    return [(CaseMark.of(item.get_closest_marker(NAME)).workload, case) for item in items if (case := case_of(item))]


def is_named(config: pytest.Config, path: Path) -> bool:
    """Tell whether a file itself is named on the command line, and not only a folder around it."""
    named = (config.invocation_params.dir / argument.partition("::")[0] for argument in config.args)
    return any(candidate.resolve() == path.resolve() for candidate in named)


def asks_for_benchmarks(config: pytest.Config) -> bool:
    """Tell whether an option says that benchmarks are run: `--benchmark-only`, or `--benchmark-disable` to try them."""
    return any(config.getoption(f"benchmark_{name}", default=False) for name in ("only", "disable"))


def is_benchmark_file(path: Path) -> bool:
    """Tell whether a file is named `bench_*.py` and uses `peft_case`; other files of that name may be scripts."""
    return path.match("bench_*.py") and FIXTURE.encode() in path.read_bytes()


def record_ids(items: Sequence[pytest.Item]) -> dict[str, str]:
    """Return node id -> id in records, which is the test's name if it is unique, else the node id."""
    ours = [item for item in items if case_of(item)]
    count = Counter(item.name for item in ours)
    return {item.nodeid: item.name if count[item.name] == 1 else item.nodeid for item in ours}


def mode(config: pytest.Config) -> Mode:
    """Return what pytest-benchmark's options ask for.

    Raises:
        UserError: pytest-benchmark is switched off.
    """
    session = getattr(config, "_benchmarksession", None)
    if session is None:
        raise UserError(
            "pytest-benchmark, through which cases are timed, is switched off: "
            "run without `-p no:benchmark`, and without pytest-codspeed's --codspeed"
        )
    if session.skip:
        return Mode.SKIP
    return Mode.TRY_ONCE if session.disabled else Mode.MEASURE


def measures(config: pytest.Config) -> bool:
    """Tell whether cases are measured; raises UserError as `mode` does."""
    return not config.option.collectonly and mode(config) is Mode.MEASURE


def goes_on(session: pytest.Session) -> bool:
    """Tell whether pytest runs the collected items. After an error it does so only if the user asked for it."""
    return not session.testsfailed or bool(session.config.option.continue_on_collection_errors)


def _has_no_case(item: pytest.Item) -> bool:
    return FIXTURE in getattr(item, "fixturenames", ()) and case_of(item) is None
