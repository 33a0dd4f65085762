"""What a comparison found: plain data, which reports render without computing anything."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, get_args

from peftbench.errors import unknown
from peftbench.gate.rule import Rule

Verdict = Literal["regressed", "inconclusive", "improved", "unchanged", "new", "missing", "not comparable"]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
"""In the order in which reports list them; of a case's parts the first one counts."""

FAIL_ON: Final[frozenset[Verdict]] = frozenset({"regressed"})
STRICT: Final[frozenset[Verdict]] = frozenset({"regressed", "inconclusive", "missing", "not comparable"})
"""What fails a strict gate."""


def parse_fail_on(text: str) -> frozenset[Verdict]:
    """Read `regressed,inconclusive,not-comparable`; `none` and `strict` stand alone.

    Raises:
        UserError: a word is no verdict.
    """
    if text in ("none", "strict"):
        return STRICT if text == "strict" else frozenset()
    spelled = {verdict.replace(" ", "-"): verdict for verdict in VERDICTS}
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in spelled:
            raise unknown("verdict", word, [*spelled, "none", "strict"])
    return frozenset(spelled[word] for word in words)


@dataclass(frozen=True, slots=True)
class Change:
    """A number that is not what it was."""

    name: str
    before: float
    after: float
    fails: bool = False
    """Whether it rose by more than the rule lets it."""


@dataclass(frozen=True, slots=True)
class Time:
    """How a case's time against its reference moved; shifts in log units."""

    verdict: Verdict | None
    """None where it cannot be judged; what is known is shown all the same."""
    shift: float
    """Beyond what all cases moved by."""
    low: float
    high: float
    p: float
    """Of the direction in which it moved."""
    base_launches: int
    new_launches: int
    detectable: float
    """The slowdown that would have been found with the rule's power."""
    launches_needed: int = 0
    """How many more would tell, of an inconclusive case; 0 where none would."""


@dataclass(frozen=True, slots=True)
class CaseVerdict:
    """What became of one case."""

    id: str
    verdict: Verdict
    reason: str = ""
    """Why, where numbers do not say it: what is missing, failed or not comparable."""
    time: Time | None = None
    base_s: float | None = None
    new_s: float | None = None
    """Median times of a round, for people."""
    counters: tuple[Change, ...] = ()
    """Those that moved, the failing ones first."""
    same_counters: tuple[str, ...] = ()
    """Those that were compared and did not."""
    operators: tuple[Change, ...] = ()
    """Calls of operators that moved, the largest difference first."""
    modules: tuple[Change, ...] = ()
    """Trainable parameters of modules that moved, the largest difference first."""
    reordered: bool = False
    """Whether operators are called in another order, though as often as before."""


@dataclass(frozen=True, slots=True)
class SuiteVerdict:
    """What became of all cases together, or of the reference of some."""

    name: str
    verdict: Verdict
    shift: float
    """In log units."""
    limit: float
    """As a share, beyond which it is a verdict."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found."""

    cases: tuple[CaseVerdict, ...]
    """Sorted by id."""
    suite: tuple[SuiteVerdict, ...] = ()
    detectable: float | None = None
    """Median over cases of the smallest slowdown that would have been found with the rule's power, in log units."""
    notes: tuple[str, ...] = ()
    """What was not compared as a whole, and why: one sentence each."""
    rule: Rule = field(default_factory=Rule)

    def select(self, matches: Callable[[str], bool]) -> Comparison:
        """Return the comparison of some cases; what all cases told of each other stays."""
        return replace(self, cases=tuple(case for case in self.cases if matches(case.id)))

    def counts(self) -> Mapping[Verdict, int]:
        """Return how many cases have each verdict, in the order of VERDICTS, those that none has left out."""
        found = Counter(case.verdict for case in self.cases)
        return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}

    def failing(self, fail_on: Iterable[Verdict]) -> tuple[CaseVerdict | SuiteVerdict, ...]:
        """Return what fails a gate that fails on these verdicts."""
        verdicts = set(fail_on)
        items: tuple[CaseVerdict | SuiteVerdict, ...] = (*self.suite, *self.cases)
        return tuple(item for item in items if item.verdict in verdicts)


def share(shift: float) -> float:
    """Return a shift in log units as a share: 0.05 for 5 %."""
    return math.expm1(shift)
