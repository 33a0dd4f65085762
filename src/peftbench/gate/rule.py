"""The constants of the gate's rule, each with a name, a default and a line that says what it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final, Self

from peftbench.errors import UserError, unknown


def _share(default: float, text: str) -> float:
    return field(default=default, metadata={"help": text, "low": 0.0, "high": 1.0})


def _count(default: int, text: str, low: int = 1) -> int:
    return field(default=default, metadata={"help": text, "low": low, "high": 1000})


@dataclass(frozen=True, slots=True)
class Option:
    """One constant of the rule, as an option on a command line."""

    name: str
    """With dashes, without prefix: `max-shift`."""
    type: type[int] | type[float]
    default: float
    help: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When a case is called slower. Shares are relative: 0.05 is 5 %. `docs/gate.md` holds formulas and evidence."""

    limit: float = _share(0.05, "a case is unchanged when a slowdown above this share is excluded")
    tolerance: float = _share(0.01, "share that a case may be slower by: p is the probability under a true shift of it")
    alpha: float = _share(0.001, "a case is slower when p is below this, with a full baseline")
    alpha_young: float = _share(0.002, "the same while the baseline is not full")
    confidence: float = _share(0.95, "confidence of each bound of a shift")
    power: float = _share(0.90, "probability with which the smallest detectable slowdown is found")
    suspect_p: float = _share(0.2, "a case with a p below this after the first launches is looked at again")
    futility: float = _share(0.05, "a suspect is cleared when the chance that the launches left make it slower is less")
    launches: int = _count(3, "launches of every case; fewer than this never fail a case")
    more_launches: int = _count(7, "launches that are added to those of a suspect at most", low=0)
    launches_alone: int = _count(2, "of the launches added, those that suspects make without siblings, first", low=0)
    siblings: int = _count(4, "cases that are launched beside suspects, so that a common shift shows")
    full_baseline: int = _count(20, "launches that a case of the baseline holds at most, oldest out first", low=2)
    min_baseline: int = _count(5, "launches that a case of the baseline must hold for its time to be compared", low=2)
    session_launches: int = _count(5, "launches that one appended session adds to a case at most")
    min_cases: int = _count(5, "cases from which a common shift and a prior spread are estimated, at least", low=2)
    prior_spread: float = _share(0.02, "spread between launches that is assumed where there are fewer cases")
    prior_launches: int = _count(10, "launches that the spread common to all cases weighs as much as", low=0)
    max_shift: float = _share(0.03, "all cases together may move against their reference by this share")
    max_reference_shift: float = _share(0.15, "the reference itself may move against the anchor by this share")
    max_clock_difference: float = _share(0.05, "times are not compared where a GPU's clock differs by more than this")
    interpreter_tolerance: float = _share(0.01, "share that Python calls and bytecodes may rise by (others: 0)")

    def __post_init__(self) -> None:
        """Refuse what is out of range; raises UserError."""
        for item in fields(self):
            value, low, high = getattr(self, item.name), item.metadata["low"], item.metadata["high"]
            if not low <= value <= high or (item.name in _PROBABILITIES and value in (low, high)):
                allowed = f"between {low} and {high}" if item.name in _PROBABILITIES else f"from {low} to {high}"
                raise UserError(f"gate {_dashed(item.name)} {value}: must be {allowed}")
        if self.tolerance >= self.limit:
            raise UserError(f"gate tolerance {self.tolerance}: must be below the limit {self.limit}")
        if self.min_baseline > self.full_baseline:
            raise UserError(
                f"gate min-baseline {self.min_baseline}: must be at most {self.full_baseline}, full-baseline"
            )

    @classmethod
    def options(cls) -> tuple[Option, ...]:
        """Return every constant as an option."""
        return tuple(
            Option(_dashed(item.name), type(item.default), item.default, item.metadata["help"])
            for item in fields(cls)
            if isinstance(item.default, int | float)
        )

    @classmethod
    def from_options(cls, values: Mapping[str, float | None]) -> Self:
        """Return the rule with some constants replaced; names are those of `options`, None keeps the default.

        Raises:
            UserError: a name is unknown, or a value is out of range.
        """
        names = {option.name for option in cls.options()}
        for name in values:
            if name not in names:
                raise unknown("gate option", name, names)
        given = {name.replace("-", "_"): value for name, value in values.items() if value is not None}
        return cls(**given)  # type: ignore[arg-type]  # counts are ints, as the option's type says

    @property
    def all_launches(self) -> int:
        """Launches of a suspect in the end."""
        return self.launches + self.more_launches


_PROBABILITIES: Final = frozenset({"alpha", "alpha_young", "confidence", "power", "suspect_p"})


def _dashed(name: str) -> str:
    return name.replace("_", "-")
