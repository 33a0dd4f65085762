"""What the house promises a reader: few files in the hall, short modules and functions, one meaning a name."""

import ast
from collections import Counter
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src/peftbench"
MODULES = sorted(SOURCE.rglob("*.py"))
LINES, FUNCTION_LINES, HALL = 300, 70, 8
MUTABLE = {"_Fresh", "_Merging", "Stopwatch"}
"""Dataclasses that hold a state between two rounds, or between two laps."""


def test_few_files_stand_in_the_hall() -> None:
    assert len(list(SOURCE.glob("*.py"))) <= HALL


def test_no_module_is_long() -> None:
    lengths = {str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > LINES} == {}


def test_no_function_is_long() -> None:
    long = [
        f"{path.relative_to(SOURCE)}:{node.name}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES
    ]
    assert long == []


def test_no_class_name_stands_for_two_things() -> None:
    names = Counter(
        node.name
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1 and not name.startswith("_")] == []


def test_each_room_says_what_is_in_it_and_what_it_may_import() -> None:
    for path in SOURCE.rglob("__init__.py"):
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert path.parent == SOURCE or said.count(".") >= 2, path


def test_data_are_frozen_and_what_is_not_is_named() -> None:
    flags = {
        node.name: ast.unparse(flag)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        for flag in node.decorator_list
        if ast.unparse(flag).startswith("dataclass")
    }
    assert len(flags) > 100
    assert {name for name, flag in flags.items() if "frozen=True" not in flag} == MUTABLE
