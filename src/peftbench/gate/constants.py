"""The constants of the gate's rule. Each has a name, a default and a help text."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final, Self

from peftbench.errors import UserError, unknown


def _share(default: float, text: str) -> float:
    return field(default=default, metadata={"help": text, "low": 0.0, "high": 1.0})


def _count(default: int, text: str, low: int = 1) -> int:
    return field(default=default, metadata={"help": text, "low": low, "high": 1000})


def _bytes(default: int, text: str) -> int:
    return field(default=default, metadata={"help": text, "low": 0, "high": 2**40})


@dataclass(frozen=True, slots=True)
class Constant:
    """One constant of the rule."""

    name: str
    """Name as users write it: `max-shift`."""
    type: type[int] | type[float]
    default: float
    help: str

    @property
    def field(self) -> str:
        """Name of its field in `Rule`."""
        return self.name.replace("-", "_")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The constants that decide when a case is slower. 0.05 means 5 %. `docs/gate.md` gives the formulas."""

    limit: float = _share(0.05, "Slowdown that must be excluded for a case to be unchanged.")
    tolerance: float = _share(0.01, "Slowdown that is treated as harmless (0.01 = 1 %).")
    alpha: float = _share(
        0.001,
        "A case is slower when p is below this, with a full baseline. p is the probability of launches at least this "
        "slow if the true slowdown is the tolerance.",
    )
    alpha_young: float = _share(0.002, "Replaces alpha while the baseline holds fewer launches than full-baseline.")
    early_alpha: float = _share(0.1, "Share of alpha that is spent on verdicts before a suspect's last launch.")
    confidence: float = _share(0.95, "One-sided confidence of each bound of a shift.")
    power: float = _share(0.90, "Probability with which a slowdown of the reported smallest size is found.")
    suspect_p: float = _share(0.2, "A case with a p below this after the first launches is a suspect.")
    futility: float = _share(
        0.05,
        "A suspect with a slowdown above the limit excluded is cleared when the chance that further launches call it "
        "slower is below this.",
    )
    launches: int = _count(3, "Launches that every case gets. With fewer, no case fails by its time.")
    more_launches: int = _count(7, "Most launches that a suspect gets after the first ones.", low=0)
    launches_alone: int = _count(
        2, "How many of a suspect's further launches run without siblings, before the others.", low=0
    )
    siblings: int = _count(4, "Cleared cases that run beside suspects to show a common shift.")
    full_baseline: int = _count(20, "Most launches that a baseline keeps of a case; the oldest are dropped.", low=2)
    min_baseline: int = _count(5, "Fewest launches that a baseline needs of a case before its time is judged.", low=2)
    session_launches: int = _count(5, "Most launches that `accept --append` adds to a case from one session.")
    min_cases: int = _count(5, "Fewest cases from which a common shift or a prior spread is estimated.", low=2)
    prior_spread: float = _share(0.02, "Spread between launches that is assumed with fewer cases than min-cases.")
    prior_launches: int = _count(10, "Weight of the prior spread in a case's variance, in degrees of freedom.", low=0)
    max_shift: float = _share(0.03, "Common shift of all cases that is accepted. A larger slowdown fails.")
    max_reference_shift: float = _share(0.15, "Shift of the reference against the anchor that is accepted.")
    max_clock_difference: float = _share(0.05, "Times are not compared when the GPU's clock differs by more than this.")
    resource_tolerance: float = _share(
        0.0, "Rise of FLOPs, parameters and bytes of tensors that is allowed, as a share."
    )
    file_tolerance: float = _share(
        0.01, "Growth of a checkpoint beside its tensors that is always allowed, as a share."
    )
    file_bytes: int = _bytes(65536, "Growth of a checkpoint beside its tensors that is always allowed, in bytes.")
    interpreter_tolerance: float = _share(
        0.01,
        "Rise of operator calls, allocations, Python calls and bytecodes that is allowed, as a share, when a "
        "slowdown is not excluded.",
    )

    def __post_init__(self) -> None:
        """Raise UserError for a constant that is out of range."""
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
        """Read `limit=0.03,alpha=0.001`. Other constants keep their defaults; the last value of a name wins.

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
        """Most launches of a suspect: the first ones and those added."""
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
