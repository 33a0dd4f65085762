"""The constants of the gate's rule, each with a name, a default and a line that says what it does."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final, Self

from peftbench.errors import UserError, unknown


def _share(default: float, text: str) -> float:
    return field(default=default, metadata={"help": text, "low": 0.0, "high": 1.0})


def _count(default: int, text: str, low: int = 1) -> int:
    return field(default=default, metadata={"help": text, "low": low, "high": 1000})


@dataclass(frozen=True, slots=True)
class Constant:
    """One constant of the rule."""

    name: str
    """As people write it: `max-shift`."""
    type: type[int] | type[float]
    default: float
    help: str

    @property
    def field(self) -> str:
        """Its field of `Rule`."""
        return self.name.replace("-", "_")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When a case is called slower. Shares are relative: 0.05 is 5 %. `docs/gate.md` holds the formulas."""

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
                raise UserError(f"{_dashed(item.name)} {value}: must be {allowed}")
        if self.tolerance >= self.limit:
            raise UserError(f"tolerance {self.tolerance}: must be below the limit {self.limit}")
        if self.min_baseline > self.full_baseline:
            raise UserError(f"min-baseline {self.min_baseline}: must be at most {self.full_baseline}, full-baseline")

    @classmethod
    def constants(cls) -> tuple[Constant, ...]:
        """Return every constant."""
        return tuple(
            Constant(_dashed(item.name), type(item.default), item.default, item.metadata["help"])
            for item in fields(cls)
            if isinstance(item.default, int | float)
        )

    @classmethod
    def read(cls, text: str) -> Self:
        """Read `limit=0.03,alpha=0.001`: some constants are replaced, the last value of one counts.

        Raises:
            UserError: a part without `=`, an unknown name, or a value out of range.
        """
        constants = {constant.name: constant for constant in cls.constants()}
        given: dict[str, Any] = {}
        for part in filter(None, map(str.strip, text.split(","))):
            written, equals, value = map(str.strip, part.partition("="))
            name = _dashed(written)
            if name not in constants:
                raise unknown("constant", name, constants)
            if not (equals and value):
                raise UserError(f"{part}: write {name}=VALUE, such as {name}={constants[name].default}")
            given[constants[name].field] = _number(constants[name], value)
        return cls(**given)

    @property
    def all_launches(self) -> int:
        """Launches of a suspect in the end."""
        return self.launches + self.more_launches


_PROBABILITIES: Final = frozenset({"alpha", "alpha_young", "confidence", "power", "suspect_p"})


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _number(constant: Constant, text: str) -> float:
    try:
        return constant.type(text)
    except ValueError:
        kind = "a whole number" if constant.type is int else "a number"
        raise UserError(f"{constant.name} {text!r}: must be {kind}") from None
