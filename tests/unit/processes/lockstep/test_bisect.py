"""Where a case became worse: the search against a truth that is known, and what lies between two states."""

import math
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from tests.unit.processes.lockstep.test_states import git, wheel

from peftbench.errors import UserError
from peftbench.gate.origin import Origin
from peftbench.processes.lockstep import places
from peftbench.processes.lockstep.bisect import first_worse, origins
from peftbench.processes.lockstep.places import between, offered, within
from peftbench.processes.lockstep.states import THIS, Asked


def search(
    count: int, truth: dict[str, int], gone: frozenset[int] = frozenset()
) -> tuple[dict[str, tuple[int, int]], list[tuple[int, list[str]]]]:
    """Return what is found where each case is worse from a place on, and what was asked."""
    asked: list[tuple[int, list[str]]] = []

    def worse(place: int, cases: Sequence[str]) -> frozenset[str] | None:
        asked.append((place, list(cases)))
        return None if place in gone else frozenset(case for case in cases if truth[case] <= place)

    return first_worse(count, list(truth), worse), asked


@pytest.mark.parametrize("count", range(2, 20))
def test_each_case_is_found_with_as_few_steps_as_can_be(count: int) -> None:
    for origin in range(1, count):
        found, asked = search(count, {"a": origin})
        assert found == {"a": (origin - 1, origin)}
        assert len(asked) <= math.ceil(math.log2(count - 1))


def test_cases_that_share_an_origin_share_the_steps_and_no_place_is_asked_for_more_than_it_can_tell() -> None:
    random = Random(0)
    for _ in range(200):
        count = random.randint(2, 30)
        truth = {name: random.randint(1, count - 1) for name in "abcd"}
        found, asked = search(count, truth)
        assert found == {name: (origin - 1, origin) for name, origin in truth.items()}
        assert len({(place, case) for place, cases in asked for case in cases}) == sum(len(one[1]) for one in asked)
        assert all(0 < place < count - 1 for place, _ in asked)
    _, asked = search(100, dict.fromkeys("abcd", 60))
    assert len(asked) <= 7


def test_a_place_that_cannot_be_had_is_passed_over_and_said() -> None:
    random = Random(1)
    for _ in range(200):
        count = random.randint(3, 20)
        gone = frozenset(random.sample(range(1, count - 1), random.randint(0, count - 2)))
        origin = random.randint(1, count - 1)
        found, asked = search(count, {"a": origin}, gone)
        good = max(place for place in range(origin) if place not in gone)
        bad = min(place for place in range(origin, count) if place not in gone)
        assert found == {"a": (good, bad)}
        assert len({place for place, _ in asked}) == len(asked)
    names = ["v1", "v2", "v3", "v4"]
    assert origins(names, {"a": (0, 2)}) == (Origin("a", "v1", "v3", ("v2",)),)
    assert origins(names, {"a": (0, 2)})[0].sentence == (
        "first worse at v3, or at one of 1 states between, which cannot be had; not yet at v1"
    )


def test_versions_between_two_in_the_order_of_the_walk() -> None:
    known = ["0.10.0", "0.9", "0.9.1", "0.2", "1.0", "not a version", "0.11"]
    assert within(known, "0.9", "0.11") == ["0.9.1", "0.10.0"]
    assert within(known, "0.11", "0.9") == ["0.10.0", "0.9.1"]
    assert within(known, "0.9", "0.9.1") == []


def test_the_index_tells_what_lies_between_two_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    for release in ("1.0", "1.1", "1.2", "2.0"):
        wheel(tmp_path, "zz_first", release)
    found = between(Asked("zz-first==1.0"), Asked("zz-first==2.0"), tmp_path)
    assert [place.text for place in found] == [f"zz-first=={release}" for release in ("1.0", "1.1", "1.2", "2.0")]
    with pytest.raises(UserError, match=r"^--peftbench-bisect: the index does not tell versions of no-such-thing: "):
        offered("no-such-thing")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for number in range(4):
        (folder / "code.py").write_text(f"VALUE = {number}\n")
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", f"change {number}")
    return folder


def told(root: Path, against: str, candidate: str = "") -> list[str]:
    found = between(Asked(against), Asked(candidate) if candidate else None, root)
    return [place.name if place.name == THIS else place.name.partition(" ")[2] for place in found]


def test_commits_between_a_revision_and_this_checkout(root: Path) -> None:
    assert told(root, "HEAD~3") == ["change 0", "change 1", "change 2", f"change 3 ({THIS})"]
    assert told(root, "HEAD~3", "HEAD~1") == ["change 0", "change 1", "change 2"]
    (root / "new.py").write_text("")
    assert told(root, "HEAD")[-1] == THIS
    (root / "code.py").write_text("VALUE = 9\n")
    assert told(root, "HEAD~1") == ["change 2", "change 3", THIS]
    git(root, "commit", "-q", "--allow-empty", "-m", "clears \x1b[2J the screen")
    assert told(root, "HEAD~1", "HEAD")[-1] == "clears \\x1b[2J the screen"
    git(root, "reset", "-q", "--soft", "HEAD~1")
    git(root, "checkout", "-qf", "-b", "side", "HEAD~2")
    git(root, "commit", "-q", "--allow-empty", "-m", "aside")
    assert told(root, "main") == ["change 3", "change 1", f"aside ({THIS})"]


@pytest.mark.parametrize(
    ("against", "candidate"),
    [
        ("HEAD~1 zz==1", ""),
        ("zz>=1", ""),
        ("zz==1.*", ""),
        ("zz==1 yy==2", ""),
        ("HEAD~1", "zz==1"),
        ("zz==1", "HEAD~1"),
        ("zz==1", "yy==2"),
    ],
)
def test_what_has_nothing_between_is_refused_in_one_line(root: Path, against: str, candidate: str) -> None:
    with pytest.raises(UserError) as caught:
        told(root, against, candidate)
    assert str(caught.value) == places.CANNOT
