"""Compares two states of the code by pairs of processes, with more pairs for suspects."""

from __future__ import annotations

import math
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from peftbench.gate.compare import compare, condemned
from peftbench.gate.constants import Rule
from peftbench.gate.judgement import Judgement, merged
from peftbench.gate.pairs import pair_shifts
from peftbench.gate.snapshot import Snapshot, snapshot_of
from peftbench.gate.stages import Looks, pending
from peftbench.processes.launches.assignment import Assignment
from peftbench.processes.launches.launcher import Target
from peftbench.processes.lockstep.channel import PeerLostError
from peftbench.processes.lockstep.pair import PairedCase, Side, State, run_pair, running
from peftbench.records.estimate import median_estimate
from peftbench.records.record import Launch, Metric, Record, Run
from peftbench.report.numbers import counted

EXTRA_PAIRS: Final = 2
"""Most further pairs of a suspect, for each first pair."""
COUNTINGS: Final = 2
"""Number of pairs that take counters of a case that fails by one. If a counter jitters, the smallest is compared."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The results of one pair of processes."""

    cases: tuple[PairedCase, ...]
    base: Run
    new: Run


@dataclass(frozen=True, kw_only=True)
class Duel:
    """Compares two states by pairs of processes."""

    base: State
    new: State
    folder: Path
    session: str
    say: Callable[[str], None]

    def judge(self, targets: Sequence[Target], count: int, rule: Rule, *, strict: bool) -> Judgement | None:
        """Run `count` pairs of all cases and further pairs of suspects, and compare; None if no pair finished a case.

        Raises:
            UserError: a state refuses the options of the run.
        """
        pairs: list[Pair] = []
        again, planned = targets, (1 + EXTRA_PAIRS) * count if rule.more_launches else count
        for number in range(planned):
            guilty = _condemned(pairs, rule)
            if number >= count:
                doubtful = {*suspects(numbers(pairs), rule, count, planned)} - guilty
                if not (again := [target for target in again if target.id in doubtful]):
                    break
            known = _proven(pairs) - (guilty if number < COUNTINGS else frozenset())
            if pair := self._pair(again, number + 1, known):
                pairs.append(pair)
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

    def _pair(self, targets: Sequence[Target], number: int, known: Set[str]) -> Pair | None:
        """Run one pair; None if it finished no case. If a process dies, the cases that are finished are kept."""
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
                cases.extend(run_pair(sides["base"], sides["new"], targets, seed=seed, known=known))
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
    """Return the record of the new state, with its time as a ratio to that of the old state."""
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
    """Return case -> number of each pair, which is the median over rounds of ln(new / old)."""
    found: dict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        for case in pair.cases:
            if case.rounds is not None:
                found[case.id].append(statistics.median(case.rounds.log_ratios))
    return dict(found)


def suspects(found: Mapping[str, Sequence[float]], rule: Rule, first: int, last: int) -> list[str]:
    """Return the cases that need another pair.

    Args:
        found: Case -> number of each pair.
        rule: The constants.
        first: Pairs of every case.
        last: Most pairs of a suspect.
    """
    names = sorted(found)
    doubtful = pending(pair_shifts([found[name] for name in names], rule), rule, Looks(first, last))
    return [names[place] for place in np.flatnonzero(doubtful)]


def _proven(pairs: Sequence[Pair]) -> frozenset[str]:
    """Return the cases that a pair has finished on each side that has them. The first such pair takes all passes."""
    return frozenset(
        case.id
        for pair in pairs
        for case in pair.cases
        if all(record is None or record.status == "ok" for record in (case.base, case.new))
    )


def _condemned(pairs: Sequence[Pair], rule: Rule) -> frozenset[str]:
    """Return the cases that fail by a counter, whatever their time is."""
    if not pairs:
        return frozenset()
    base, new = merged([pair.base for pair in pairs]), merged([pair.new for pair in pairs])
    under_test = base.fingerprint.keys() | new.fingerprint.keys()
    return condemned(*_comparable(snapshot_of(base), snapshot_of(new)), rule, under_test=under_test)


def _comparable(base: Snapshot, new: Snapshot) -> tuple[Snapshot, Snapshot]:
    """Return both without `reference`, and without settings that only one revision has."""
    common = (base.settings.keys() & new.settings.keys()) - {"reference"}

    def narrowed(side: Snapshot) -> Snapshot:
        return replace(side, settings={name: side.settings[name] for name in sorted(common)})

    return narrowed(base), narrowed(new)
