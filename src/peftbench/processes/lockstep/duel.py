"""Two states of the code against each other: pairs of processes, more of them for suspects, and what comes of it."""

from __future__ import annotations

import math
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from peftbench.gate.compare import compare
from peftbench.gate.judgement import Judgement, merged
from peftbench.gate.pairs import pair_shifts
from peftbench.gate.rule import Rule
from peftbench.gate.snapshot import Snapshot, snapshot_of
from peftbench.gate.statistics import pending
from peftbench.processes.launches.assignment import Assignment
from peftbench.processes.launches.launcher import Target
from peftbench.processes.lockstep.channel import PeerLostError
from peftbench.processes.lockstep.pair import PairedCase, Side, State, run_pair, running
from peftbench.records.estimate import median_estimate
from peftbench.records.record import Launch, Metric, Record, Run
from peftbench.report.numbers import counted

EXTRA_PAIRS: Final = 2
"""Pairs that a suspect gets besides at most, for each of the first ones."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What one pair of processes yielded."""

    cases: tuple[PairedCase, ...]
    base: Run
    new: Run


@dataclass(frozen=True, kw_only=True)
class Duel:
    """Runs pairs of processes."""

    base: State
    new: State
    folder: Path
    session: str
    say: Callable[[str], None]

    def judge(self, targets: Sequence[Target], count: int, rule: Rule, *, strict: bool) -> Judgement | None:
        """Run `count` pairs of all cases, more of suspects until they are cleared, and compare.

        None if no pair finished a case.

        Raises:
            UserError: a state cannot run what it was asked for.
        """
        pairs = self.run(targets, count)
        again, planned = targets, (1 + EXTRA_PAIRS) * count if rule.more_launches else count
        for number in range(count, planned):
            doubtful = suspects(numbers(pairs), rule, count, planned)
            if not (again := [target for target in again if target.id in doubtful]):
                break
            pairs += self.run(again, 1, after=number)
        if not pairs:
            return None
        base, new = merged([pair.base for pair in pairs]), merged([pair.new for pair in pairs])
        comparison = compare(
            *_comparable(snapshot_of(base), snapshot_of(new)),
            rule,
            under_test=base.fingerprint.keys() | new.fingerprint.keys(),
            planned_launches=planned,
            pairs=numbers(pairs),
        )
        return Judgement(new, comparison, f"{self.new.name} in lock-step with {self.base.name}", strict)

    def run(self, targets: Sequence[Target], count: int, *, after: int = 0) -> list[Pair]:
        """Run pairs; one that dies is told of, and costs the cases that it had not finished."""
        found = [self._pair(targets, number) for number in range(after + 1, after + count + 1)]
        return [pair for pair in found if pair is not None]

    def _pair(self, targets: Sequence[Target], number: int) -> Pair | None:
        cases: list[PairedCase] = []
        sides: dict[str, Side] = {}
        try:
            with ExitStack() as stack:
                for name in random.Random(f"{self.session} {number}").sample(["base", "new"], 2):
                    assignment = Assignment(
                        session=self.session,
                        nodes=tuple(target.node for target in targets),
                        folder=str(self.folder / f"{number}-{name}"),
                    )
                    sides[name] = stack.enter_context(running(getattr(self, name), assignment))
                seed = f"{self.session} {number}"
                cases.extend(run_pair(sides["base"], sides["new"], targets, seed=seed))
        except PeerLostError as error:
            self.say(f"pair {number}: {error}; {len(cases)} of {len(targets)} cases are kept")
        else:
            self.say(f"pair {number}: {counted(len(cases), 'case')}")
        if not cases:
            return None
        base, new = sides["base"], sides["new"]
        old = tuple(case.base for case in cases if case.base)
        now = tuple(against(case, case.new, self.session) for case in cases if case.new)
        settings = {**new.settings, "reference": self.base.name}
        return Pair(tuple(cases), Run(base.fingerprint, base.settings, old), Run(new.fingerprint, settings, now))


def against(case: PairedCase, new: Record, session: str) -> Record:
    """Return the record of the new state, with its time related to that of the base."""
    if case.rounds is None:
        return new
    x = median_estimate(case.rounds.log_ratios)
    launch = Launch(
        session=session,
        rounds=len(case.rounds.case),
        time_s=statistics.median(timing.wall_s for timing in case.rounds.case),
        reference_s=statistics.median(timing.wall_s for timing in case.rounds.reference),
        x=x.median,
    )
    ratio = Metric(math.exp(x.median), "1", noise="timed", low=math.exp(x.low), high=math.exp(x.high))
    return replace(new, launches=(launch,), metrics={**new.metrics, "against": ratio})


def numbers(pairs: Sequence[Pair]) -> dict[str, list[float]]:
    """Return by case the number of each pair: the median over rounds of ln(new / base)."""
    found: dict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        for case in pair.cases:
            if case.rounds is not None:
                found[case.id].append(statistics.median(case.rounds.log_ratios))
    return dict(found)


def suspects(found: Mapping[str, Sequence[float]], rule: Rule, first: int, last: int) -> list[str]:
    """Return the cases that another pair may tell more of: of `first` pairs of all cases, and `last` of suspects."""
    names = sorted(found)
    doubtful = pending(pair_shifts([found[name] for name in names], rule), rule, first, last)
    return [names[place] for place in np.flatnonzero(doubtful)]


def _comparable(base: Snapshot, new: Snapshot) -> tuple[Snapshot, Snapshot]:
    """Return both without the settings that only one of two revisions has, and without what each is related to."""
    common = (base.settings.keys() & new.settings.keys()) - {"reference"}

    def narrowed(side: Snapshot) -> Snapshot:
        return replace(side, settings={name: side.settings[name] for name in sorted(common)})

    return narrowed(base), narrowed(new)
