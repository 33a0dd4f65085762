"""How many pairs of which cases are run, and what comes of them: numbers that are drawn, no processes."""

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from peftbench.gate.constants import Rule
from peftbench.gate.verdict import Comparison
from peftbench.measure.time.clock import Timing
from peftbench.measure.time.rounds import Rounds
from peftbench.processes.launches.assignment import Assignment
from peftbench.processes.launches.launcher import Target
from peftbench.processes.launches.process import Command
from peftbench.processes.lockstep.duel import EXTRA_PAIRS, Duel, Pair, against
from peftbench.processes.lockstep.pair import PairedCase, Side, State
from peftbench.records.record import Metric, Record, Run

COUNT = 5
NAMES = "abcdefghijkl"
SPREAD = 0.012
"""Standard deviation of a pair's number."""
SETTINGS = {"model": "tiny"}


@dataclass(frozen=True, kw_only=True)
class Drawn(Duel):
    """A duel whose pairs are drawn."""

    shifts: Mapping[str, float]
    seed: int
    flops: Mapping[str, tuple[int, int]]
    """What the two sides count, where that is not the same."""
    asked: list[str] = field(default_factory=list)
    """The cases of each pair, in one word."""
    known: list[str] = field(default_factory=list)
    """Those of them of which only the time was wanted."""

    def _pair(self, targets: Sequence[Target], number: int, known: Set[str]) -> Pair | None:
        self.known.append("".join(sorted(known)))
        self.asked.append("".join(target.id for target in targets))
        rng = np.random.default_rng((self.seed, number))
        cases = tuple(self._case(target.id, rng.normal(0, SPREAD)) for target in targets)
        old = tuple(case.base for case in cases if case.base)
        now = tuple(against(case, case.new, self.session) for case in cases if case.new)
        return Pair(cases, Run({}, SETTINGS, old), Run({}, SETTINGS, now))

    def _case(self, name: str, noise: float) -> PairedCase:
        base, new = (
            Record(name, "train_step", name, "nli", 8, 32, "ok", metrics={"flops": Metric(count, "FLOP")})
            for count in self.flops.get(name, (1000, 1000))
        )
        rounds = Rounds((Timing(math.exp(self.shifts.get(name, 0.0) + noise)),) * 3, (Timing(1.0),) * 3, "rounds")
        return PairedCase(name, base, new, rounds)


def duel(shifts: Mapping[str, float], seed: int, rule: Rule) -> tuple[list[str], Comparison]:
    """Return the cases of each pair, and the comparison."""
    asked, _, comparison = raced(shifts, seed, rule)
    return asked, comparison


def raced(
    shifts: Mapping[str, float], seed: int, rule: Rule, flops: Mapping[str, tuple[int, int]] | None = None
) -> tuple[list[str], list[str], Comparison]:
    """Return the cases of each pair, those of them of which only the time was wanted, and the comparison."""
    state = State(name="one", command=Command(arguments=("true",), folder=Path()))
    drawn = Drawn(
        base=state,
        new=state,
        folder=Path(),
        session="today",
        say=lambda _: None,
        shifts=shifts,
        seed=seed,
        flops=flops or {},
    )
    found = drawn.judge([Target(name, name, "") for name in NAMES], COUNT, rule, strict=False)
    assert found is not None
    assert found.comparison is not None
    return drawn.asked, drawn.known, found.comparison


def test_suspects_get_more_pairs_until_they_are_cleared_or_certain_and_no_other_case_does() -> None:
    asked, comparison = duel({"c": 0.08, "e": 0.024, "h": 0.018}, 1, Rule())
    later = asked[COUNT:]
    assert asked[:COUNT] == [NAMES] * COUNT
    assert all("c" not in names for names in later)  # five pairs have told
    assert COUNT < len(later) <= EXTRA_PAIRS * COUNT
    assert all(set(after) <= set(before) for before, after in pairwise(later))
    pairs = {case.id: case.time.new_launches for case in comparison.cases if case.time}
    assert COUNT == pairs["c"] < min(pairs["e"], pairs["h"])
    assert pairs == {name: sum(name in names for names in asked) for name in NAMES}
    assert "c" in [case.id for case in comparison.cases if case.verdict == "regressed"]


def test_no_pass_is_taken_twice_but_of_what_a_counter_condemns() -> None:
    asked, known, comparison = raced({"c": 0.06}, 1, Rule(), flops={"e": (1000, 1001), "k": (1000, 999)})
    assert known == ["", NAMES.replace("e", ""), *asked[2:]]
    assert len(asked) == COUNT
    found = {case.id: case for case in comparison.cases}
    assert {name for name, case in found.items() if case.verdict == "regressed"} == {"c", "e"}
    assert found["k"].verdict == "improved"


def test_a_case_that_a_counter_condemns_gets_no_more_pairs() -> None:
    slower = {"e": 0.024, "h": 0.024}
    asked, _, _ = raced(slower, 1, Rule(), flops={"h": (1000, 1001)})
    assert asked[COUNT:]
    assert all("e" in names and "h" not in names for names in asked[COUNT:])


def test_without_more_launches_the_first_pairs_tell() -> None:
    asked, comparison = duel({"c": 0.06}, 0, Rule(more_launches=0))
    assert asked == [NAMES] * COUNT
    assert [case.id for case in comparison.cases if case.verdict == "regressed"] == ["c"]


def test_a_slowdown_of_3_percent_is_found_in_9_of_10_and_nothing_else() -> None:
    slow = dict.fromkeys("bfj", math.log(1.03))
    found = [duel(slow, seed, Rule())[1] for seed in range(40)]
    regressed = [case.id for comparison in found for case in comparison.cases if case.verdict == "regressed"]
    assert sum(name in slow for name in regressed) > 0.9 * 3 * len(found)
    assert sum(name not in slow for name in regressed) <= 1


def test_which_process_of_a_pair_starts_first_is_drawn_for_each_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first has the machine to itself while it imports, and its memory is laid out first."""
    first: list[str] = []

    @contextmanager
    def running(state: State, assignment: Assignment) -> Iterator[Side]:
        pair, name = Path(assignment.folder).name.split("-")
        assert name == state.name
        if len(first) < int(pair):
            first.append(name)
        yield cast("Side", None)

    monkeypatch.setattr("peftbench.processes.lockstep.duel.running", running)
    monkeypatch.setattr("peftbench.processes.lockstep.duel.run_pair", lambda *_, **__: ())
    orders = []
    for session in ("one", "one", "other"):
        first.clear()
        base, new = (State(name=name, command=Command(arguments=(), folder=Path())) for name in ("base", "new"))
        duel = Duel(base=base, new=new, folder=Path(), session=session, say=lambda _: None)
        for number in range(1, 41):
            duel._pair([], number, frozenset())
        assert 10 < first.count("base") < 30
        orders.append(list(first))
    assert orders[0] == orders[1] != orders[2]
