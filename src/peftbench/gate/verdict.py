"""The result of a comparison, as plain data that reports render."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, get_args

import msgspec

from peftbench.errors import unknown
from peftbench.gate.constants import Rule

Verdict = Literal["regressed", "inconclusive", "improved", "unchanged", "new", "missing", "not comparable"]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
"""Verdicts in the order of reports. If time and counters of a case have different verdicts, the first one counts."""

FAIL_ON: Final[frozenset[Verdict]] = frozenset({"regressed"})
STRICT: Final[frozenset[Verdict]] = frozenset({"regressed", "inconclusive", "missing", "not comparable"})
"""Verdicts that fail a strict gate."""


def parse_fail_on(text: str) -> frozenset[Verdict]:
    """Read verdicts, such as `regressed,not-comparable`; or one of the words `none` and `strict`.

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


class Change(msgspec.Struct, frozen=True, gc=False):
    """A number that differs between the two sides."""

    name: str
    before: float
    after: float
    fails: bool = False
    """Whether it rose by more than the rule allows."""


class Time(msgspec.Struct, frozen=True, gc=False):
    """The shift of a case's time relative to its reference, in log units."""

    verdict: Verdict | None
    """None if the time cannot be judged. The other fields are shown nevertheless."""
    shift: float
    """Shift minus the common shift."""
    low: float
    high: float
    p: float
    """p of the direction in which the time moved."""
    base_launches: int
    new_launches: int
    detectable: float
    """Smallest slowdown that would have been found with the rule's power, in log units."""
    launches_needed: int = 0
    """How many more launches would give an inconclusive case a verdict; 0 if none would."""

    def excludes(self, rule: Rule) -> bool:
        """Tell whether the time was judged and excludes a slowdown above the limit."""
        return self.verdict is not None and self.high < math.log1p(rule.limit)


class CaseVerdict(msgspec.Struct, frozen=True, gc=False):
    """The verdict of one case, with its reasons."""

    id: str
    verdict: Verdict
    reason: str = ""
    """What is missing, failed or not comparable; empty if numbers say why."""
    time: Time | None = None
    base_s: float | None = None
    new_s: float | None = None
    """Median times of a round, for people. The old one is scaled so that the two differ by the shift."""
    counters: tuple[Change, ...] = ()
    """Counters that moved, the failing ones first."""
    same_counters: tuple[str, ...] = ()
    """Counters that were compared and did not move."""
    operators: tuple[Change, ...] = ()
    """Calls of operators that moved, the largest difference first."""
    modules: tuple[Change, ...] = ()
    """Trainable parameters of modules that moved, the largest difference first."""
    reordered: bool = False
    """Whether operators are called as often as before, in another order."""


@dataclass(frozen=True, slots=True)
class SuiteVerdict:
    """The verdict of all cases together (common shift), or of the reference of some cases."""

    name: str
    verdict: Verdict
    shift: float
    """Shift in log units."""
    limit: float
    """Largest shift that is accepted, as a share."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison of two snapshots."""

    cases: tuple[CaseVerdict, ...]
    """Sorted by id."""
    suite: tuple[SuiteVerdict, ...] = ()
    detectable: float | None = None
    """Median over cases of the smallest slowdown that would have been found with the rule's power, in log units."""
    notes: tuple[str, ...] = ()
    """One sentence for each thing that was not compared, with the reason."""
    rule: Rule = field(default_factory=Rule)

    def select(self, matches: Callable[[str], bool]) -> Comparison:
        """Return the comparison of some cases. Results for the whole suite stay."""
        return replace(self, cases=tuple(case for case in self.cases if matches(case.id)))

    def counts(self) -> Mapping[Verdict, int]:
        """Return the number of cases of each verdict that occurs, in the order of VERDICTS."""
        found = Counter(case.verdict for case in self.cases)
        return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}

    def failing(self, fail_on: Iterable[Verdict]) -> tuple[CaseVerdict | SuiteVerdict, ...]:
        """Return the suite and case verdicts that fail a gate with `fail_on`."""
        verdicts = set(fail_on)
        items: tuple[CaseVerdict | SuiteVerdict, ...] = (*self.suite, *self.cases)
        return tuple(item for item in items if item.verdict in verdicts)


def share(shift: float) -> float:
    """Return a shift in log units as a share: 0.05 for 5 %."""
    return math.expm1(shift)
