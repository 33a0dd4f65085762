"""The fuzzer finds what it is there to find, and nothing in files that are sound; 500 of its cases on each run."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from tools import fuzz
from tools.fuzz_mutations import mutated
from tools.fuzz_specimens import Specimen, WrongError, specimens

from peftbench.errors import UserError


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> list[Specimen]:
    return specimens(tmp_path_factory.mktemp("fuzz"))


def test_what_is_sound_is_read(kinds: list[Specimen], tmp_path: Path) -> None:
    found = [fuzz._try(0, specimen, specimen.data, tmp_path / "case") for specimen in kinds]
    assert [(one.kind, one.outcome, one.told) for one in found] == [(kind.kind, "read", "") for kind in kinds]


def test_a_mutation_is_drawn_from_its_seed_alone(kinds: list[Specimen]) -> None:
    for specimen in kinds:
        drawn = [mutated(specimen.data, Random(f"0 {number}")) for number in range(30)]
        assert drawn == [mutated(specimen.data, Random(f"0 {number}")) for number in range(30)]
        assert len(set(drawn)) > 15


def raising(error: BaseException) -> Specimen:
    def read(_: Path) -> bool:
        raise error

    return Specimen("x", "x.json", b"{}", read)


def endless(_: Path) -> bool:
    while True:
        pass


def test_each_fault_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "HANG_S", 0.1)
    whole = Specimen("x", "x.json", b"{}", lambda _: True)
    outcomes = {
        "read": whole,
        "refused in one line": replace(whole, read=lambda _: False),
        "traceback": raising(RecursionError()),
        "wrongly accepted": raising(WrongError("a name stands twice")),
        "hang": replace(whole, read=endless),
    }
    for outcome, specimen in outcomes.items():
        assert fuzz._try(0, specimen, b"", tmp_path / "case").outcome == outcome
    assert fuzz._try(0, raising(UserError("x")), b"", tmp_path / "case").outcome == "wrongly accepted"
    assert fuzz._try(0, raising(SystemExit(3)), b"", tmp_path / "case").outcome == "traceback"


def test_five_hundred_files_that_are_broken_are_read_right_or_refused_in_one_line() -> None:
    found = list(fuzz.fuzz(range(500), seed=0))
    assert [(one.number, one.kind, one.told) for one in found if one.outcome in fuzz.BAD] == []
    assert Counter(one.outcome for one in found)["read"] > 50
    assert fuzz.table(Counter((one.kind, one.outcome) for one in found))[-1].split()[0] == "all"
