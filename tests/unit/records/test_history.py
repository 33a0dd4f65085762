"""A history is a chain of states: what is left of it, what replaces what, and what a file gives back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from peftbench.errors import UserError
from peftbench.records.history import History, Stage, Step, continued, read, write

STAGES = (Stage("v1", "1" * 40), Stage("v2", "2" * 40, "a subject"), Stage("v3", "3" * 40), Stage("v4", "4" * 40))
ONE, TWO, THREE, FOUR = STAGES
DONE = Step(ONE.identity, TWO.identity, {"cases": []})
TRIED = Step(TWO.identity, THREE.identity, problem="no such method")
HISTORY = History(("-q",), STAGES, (DONE, TRIED))


def test_what_is_left_are_the_neighbours_that_are_not_compared() -> None:
    assert HISTORY.chain == [(ONE, TWO), (TWO, THREE), (THREE, FOUR)]
    assert HISTORY.left() == [(TWO, THREE), (THREE, FOUR)]
    assert HISTORY.step(ONE, TWO) == DONE
    assert HISTORY.step(TWO, THREE) == TRIED
    assert HISTORY.step(TWO, ONE) is HISTORY.step(THREE, FOUR) is None


def test_a_state_that_cannot_be_made_is_passed_over() -> None:
    broken = replace(HISTORY, stages=(ONE, replace(TWO, problem="no package"), THREE))
    assert broken.chain == broken.left() == [(ONE, THREE)]


def test_a_step_replaces_an_earlier_attempt_and_no_other() -> None:
    again = replace(TRIED, comparison={}, problem="")
    assert HISTORY.with_step(again).steps == (DONE, again)
    assert HISTORY.with_step(replace(DONE, comparison=None, problem="gone")).left()[0] == (ONE, TWO)
    back = Step(TWO.identity, ONE.identity, {})
    assert HISTORY.with_step(back).steps == (DONE, TRIED, back)


def test_a_file_gives_back_what_was_written_with_other_states(tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    assert continued(path, ["-q"], STAGES) == replace(HISTORY, steps=())
    for history in (HISTORY, History((), ())):
        write(history, path)
        assert read(path) == history
    write(HISTORY, path)
    assert len(path.read_text().splitlines()) > 2 + len(STAGES)  # a state a line, for git
    assert continued(path, ["-q"], [ONE, THREE]) == replace(HISTORY, stages=(ONE, THREE))


@pytest.mark.parametrize(("had", "words"), [(("-q", "-x"), "-q -x"), ((), "none")])
def test_other_options_are_refused_with_those_of_the_file(tmp_path: Path, had: tuple[str, ...], words: str) -> None:
    path = tmp_path / "history.json"
    write(replace(HISTORY, options=had), path)
    with pytest.raises(UserError, match=rf"was made with other options \({words}\): give the same ones, or another"):
        continued(path, ["-q"], STAGES)
    write(replace(HISTORY, options=had, steps=(TRIED,)), path)  # nothing was measured by those options
    assert continued(path, ["-q"], STAGES) == replace(HISTORY, steps=())
