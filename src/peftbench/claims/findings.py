"""A claim as an inequality, and what a run shows of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from peftbench.claims.evidence import Evidence, Sample
from peftbench.claims.intervals import SCORE_DIFFERENCES, UNBOUNDED, Interval, Range
from peftbench.studies.training.results import Policy

Verdict = Literal["holds", "does not hold", "not shown"]
Scale = Literal["ratio", "difference"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of the paper, and the inequality that shows or refutes it."""

    name: str
    says: str
    """The claim in words."""
    measured: str
    """The measured number in words."""
    bound: float
    """The bound of the number, with a margin."""
    at_least: bool
    """True: the number must be at least the bound. False: at most."""
    scale: Scale
    """Whether the number is a ratio (samples are its logs) or a difference of scores."""
    samples: Callable[[Evidence], Iterable[Sample]]
    """Returns the observations, one sample for each case."""
    trained: bool = True
    """Whether the number depends on the choice of the learning rate."""
    on_device: Callable[[Evidence], Iterable[Sample]] | None = None
    """Returns the same observations of the device's busy time; None if the number is no latency."""

    @property
    def within(self) -> Range:
        """The range of the samples."""
        return UNBOUNDED if self.scale == "ratio" else SCORE_DIFFERENCES

    @property
    def inequality(self) -> str:
        """The claim as a formula."""
        return f"{self.measured} {'>=' if self.at_least else '<='} {self.bound:g}"

    def verdict(self, found: Interval) -> Verdict:
        """Return the verdict of an interval, which is on the claim's scale."""
        if (found.low >= self.bound) if self.at_least else (found.high <= self.bound):
            return "holds"
        if (found.high < self.bound) if self.at_least else (found.low > self.bound):
            return "does not hold"
        return "not shown"


@dataclass(frozen=True, slots=True)
class CaseFinding:
    """The result of one case."""

    case: str
    found: Interval
    verdict: Verdict
    observations: int
    censored: int
    """Number of observations that are censored."""


@dataclass(frozen=True, slots=True)
class DeviceFinding:
    """The result of a run for a claim if only the time counts in which the device was busy."""

    verdict: Verdict
    found: Interval


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a run for a claim."""

    claim: Claim
    policy: Policy | None
    """The choice of learning rates; None if it does not matter."""
    verdict: Verdict
    found: Interval | None
    """Mean and interval over all cases; None if there is no case."""
    cases: tuple[CaseFinding, ...] = field(default=())
    host_bound: tuple[str, ...] = ()
    """Names of the cases in which a GPU waited for the host."""
    device: DeviceFinding | None = None
    """The same inequality for the device's busy time; None if no case is host-bound, or busy times are missing."""

    def speaking(self, verdict: Verdict) -> list[str]:
        """Return the names of the cases with one verdict."""
        return [case.case for case in self.cases if case.verdict == verdict]
