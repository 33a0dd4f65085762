"""The tool that makes small faults: which places it takes, in which order tests run, and what makes it fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tools import mutants
from tools.mutants import Equivalent, held_elsewhere, in_order, rank, read_equivalents, report, stale

ENTRY = Equivalent("gate/pairs.py", "some = df > 0", "some = df >= 0", "why")


def test_each_fault_that_changes_nothing_stands_in_its_module_once_and_says_why() -> None:
    entries = read_equivalents()
    assert entries
    assert stale(entries) == []
    assert len({entry.key for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.line != entry.mutated
        assert entry.reason.endswith(".")
        assert entry.module.startswith(mutants.ROOMS)


def test_a_line_that_was_edited_is_stale() -> None:
    gone = Equivalent("gate/pairs.py", "some = df > 7", "", "")
    assert stale([ENTRY, gone, Equivalent("gate/none.py", "x", "", "")])[0] == gone


def test_types_flags_and_what_another_python_runs_are_no_places() -> None:
    source = """\
import sys
from dataclasses import dataclass
if TYPE_CHECKING:
    import a
if sys.version_info >= (3, 99):
    b = 1
else:
    b = 2
@dataclass(frozen=True)
class C(Base, frozen=True):
    d: int | None = 1 + 2
def e(f: int | str = 3 - 1) -> int | None:
    return f * 2
"""
    held = held_elsewhere(source)
    code = {
        (row, text[column:])
        for row, text in enumerate(source.splitlines(), start=1)
        for column in range(len(text))
        if 10_000 * row + column not in held
    }
    for row, part in ((8, "2"), (11, "1 + 2"), (12, "3 - 1) -> int | None:"), (13, "f * 2")):
        assert (row, part) in code
    for row, part in ((3, "TYPE_CHECKING:"), (4, "a"), (5, ">= (3, 99):"), (6, "1"), (9, "True)"), (10, "True):")):
        assert (row, part) not in code
    assert (11, "| None = 1 + 2") not in code
    assert (12, "| None:") not in code
    assert sys.version_info < (3, 99)


def test_a_draw_is_of_nothing_but_what_it_is_of() -> None:
    assert rank(19, "a", 1) == rank(19, "a", 1)
    assert len({rank(19, "a", 1), rank(19, "a", 2), rank(19, "a1"), rank(7, "a", 1)}) == 4


def test_a_modules_own_tests_come_first_and_slow_ones_last() -> None:
    files = {
        "tests/unit/m/time/test_slow.py": 9.0,
        "tests/unit/m/test_quick.py": 0.1,
        "tests/unit/m/time/test_own.py": 5.0,
    }
    assert in_order(Path("src/peftbench/m/time/own.py"), files) == [
        "tests/unit/m/time/test_own.py",
        "tests/unit/m/time/test_slow.py",
        "tests/unit/m/test_quick.py",
    ]


def session(*faults: tuple[str, str], left: int = 0) -> SimpleNamespace:
    """A session as cosmic-ray keeps it: the changed line of each fault, and what became of it."""
    completed = []
    for line, outcome in faults:
        item = SimpleNamespace(mutations=(SimpleNamespace(module_path=Path("src/peftbench/gate/pairs.py")),))
        output = json.dumps({"line": line, "mutated": "some = df >= 0", "number": 37})
        completed.append((item, SimpleNamespace(output=output, test_outcome=SimpleNamespace(value=outcome))))
    return SimpleNamespace(completed_work_items=completed, num_work_items=len(completed) + left)


@pytest.mark.parametrize(
    ("faults", "left", "said"),
    [
        ([("x", "killed")] * 25 + [("some = df > 0", "survived")], 0, ""),
        ([("x", "killed")] * 25 + [("y", "survived")], 0, "not seen: gate/pairs.py:37\n  - y\n  + some = df >= 0"),
        ([("x", "killed")] * 10 + [("some = df > 0", "survived")], 0, "seen: 10 of 11 (90.9%)"),
        ([("x", "killed"), ("some = df > 0", "killed")], 0, "a test sees this fault now: gate/pairs.py: some = df > 0"),
        ([("x", "killed")], 3, "3 faults are left: call it again"),
    ],
)
def test_it_fails_unless_enough_is_seen_and_the_rest_changes_nothing(
    capsys: pytest.CaptureFixture[str], faults: list[tuple[str, str]], left: int, said: str
) -> None:
    assert report(session(*faults, left=left), [ENTRY]) == (1 if said else 0)
    assert said in capsys.readouterr().out


def test_an_entry_whose_line_is_gone_makes_it_fail(capsys: pytest.CaptureFixture[str]) -> None:
    gone = Equivalent("gate/pairs.py", "no such line", "", "")
    assert report(session(("x", "killed")), [gone]) == 1
    assert "gate/pairs.py has no such line any more: no such line" in capsys.readouterr().out
