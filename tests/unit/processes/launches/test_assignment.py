from pathlib import Path

import pytest

from peftbench.errors import UserError
from peftbench.processes.launches.assignment import Assignment

GIVEN = Assignment(session="s", nodes=("a",), folder="f")


def test_what_a_parent_writes_a_child_reads(tmp_path: Path) -> None:
    path = Assignment(session="s", nodes=("a", "b"), folder=str(tmp_path / "1"), resume=True, socket=3).write()
    assert Assignment.read(path).nodes == ("a", "b")


def test_what_a_later_revision_adds_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "assignment.json"
    path.write_text('{"session": "s", "nodes": ["a"], "folder": "f", "later": 1}')
    assert Assignment.read(path) == GIVEN


@pytest.mark.parametrize("text", ["7", "null", '"s"', "[]", '[["session", "s"]]', "{}", '{"session": 1}'])
def test_another_file_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "assignment.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"^[^\n]*assignment\.json: [^\n]*$"):
        Assignment.read(path)
