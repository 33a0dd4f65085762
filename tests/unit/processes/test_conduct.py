"""How often cases are launched, and of which only the time is taken, with a launcher that starts no process."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import cast

from peftbench.processes.conduct import run_launches
from peftbench.processes.launches.launcher import Launcher, Target
from peftbench.records.record import Launch, Metric, Record, Run

CASES = [Target(name, f"node {name}", "nli-bs1") for name in ("a", "b", "c")]


@dataclass
class Remembering:
    """Each launch finishes the cases that `dies` does not name for it."""

    dies: dict[int, set[str]]
    known: list[set[str]] = field(default_factory=list)

    def launch(
        self, targets: Sequence[Target], count: int, *, after: int = 0, known: AbstractSet[str] = frozenset()
    ) -> list[Run]:
        runs = []
        for number in range(after, after + count):
            self.known.append({*known})
            records = tuple(
                record(target.id, number, only_time=target.id in known)
                for target in targets
                if target.id not in self.dies.get(number, set())
            )
            runs += [Run({}, {}, records)] if records else []
        return runs


def record(name: str, number: int, *, only_time: bool) -> Record:
    counted = {} if only_time else {"flops": Metric(7, "FLOP")}
    times = {"time_s": Metric(1.0 + number, "s", noise="timed")}
    launches = (Launch("s", 5, 1.0 + number),)
    return Record(name, "w", name, "nli", 1, 8, "ok", metrics={**counted, **times}, launches=launches)


def test_the_first_launch_that_finishes_a_case_takes_all_its_passes_and_the_others_its_time() -> None:
    launcher = Remembering({0: {"b"}, 1: {"c"}})
    outcome = run_launches(cast("Launcher", launcher), CASES, 4, None)
    assert launcher.known == [set(), {"a", "c"}, {"a", "b", "c"}, {"a", "b", "c"}]
    assert {name: len(found.launches) for name, found in outcome.records.items()} == {"a": 4, "b": 3, "c": 3}
    assert [outcome.records[name].metrics["flops"].value for name in "abc"] == [7, 7, 7]
    assert outcome.records["a"].metrics["time_s"].value == 2.5


def test_a_launch_that_finishes_nothing_proves_nothing() -> None:
    launcher = Remembering({0: {"a", "b", "c"}})
    outcome = run_launches(cast("Launcher", launcher), CASES, 2, None)
    assert launcher.known == [set(), set()]
    assert len(outcome.records) == 3
    assert run_launches(cast("Launcher", Remembering({0: {"a", "b", "c"}})), CASES, 1, None).run is None
