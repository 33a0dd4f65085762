"""When a training ends, and what it cost to reach a quality: pure functions of its curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

from peftbench.errors import UserError

if TYPE_CHECKING:
    from peftbench.records.record import CurvePoint

Stop = Literal["patience", "target", "budget"]
HIGHEST: Final = 1.0
"""The best value of every score."""


Goal = float | Mapping[str, float]
"""A quality, or a score for each of several tasks."""


@dataclass(frozen=True, slots=True)
class Target:
    """The quality to which costs are compared."""

    value: float
    relative: bool
    """Whether the value is a share of full fine-tuning's quality, not a score."""

    @classmethod
    def read(cls, text: str) -> Self:
        """Read `0.8`, a score, or `97%`, a share of full fine-tuning's quality.

        Raises:
            UserError: no number, or none that can be reached.
        """
        number, percent, rest = text.strip().partition("%")
        try:
            value = float(number) / (100 if percent else 1)
        except ValueError:
            value = 0.0
        if rest or not value > 0:
            raise UserError(f"target {text!r} cannot be read: write a score (0.8), or a share of full's (97%)")
        if value > HIGHEST and not percent:
            raise UserError(f"target {text} is above what is possible: scores go up to 1, shares are written 97%")
        return cls(value, bool(percent))

    def __str__(self) -> str:
        return f"{100 * self.value:g}%" if self.relative else f"{self.value:g}"

    def quality(self, full: float | None) -> float | None:
        """Return the target as a score, given the quality of full fine-tuning; None where it takes that and has none.

        Raises:
            UserError: no score can be so high.
        """
        if not self.relative:
            return self.value
        if full is None:
            return None
        if self.value * full > HIGHEST:
            raise UserError(
                f"target {self.value:.0%} of full fine-tuning's {full:.3f} is {self.value * full:.3f}, above what is "
                "possible: scores go up to 1; lower the target"
            )
        return self.value * full


@dataclass(frozen=True, slots=True)
class Rule:
    """What ends a training, besides its budget of steps."""

    stop: str = "patience"
    """One of `choices.STOPS`."""
    patience_steps: int = 0
    target: Goal | None = None

    def reason(self, curve: Sequence[CurvePoint], total_steps: int) -> Stop | None:
        """Return what ends a training after the last evaluation of `curve`, None where it goes on."""
        last = curve[-1]
        if self.stop == "target" and self.target is not None and attained(last, self.target):
            return "target"
        if self.stop != "budget" and last.step - best(curve).step >= self.patience_steps:
            return "patience"
        return "budget" if last.step >= total_steps else None


@dataclass(frozen=True, slots=True)
class Cost:
    """What reaching a quality took; if it was never reached, what was spent in vain: the cost is more than that."""

    value: float
    censored: bool = False


def best(curve: Sequence[CurvePoint]) -> CurvePoint:
    """Return the first point of the highest quality."""
    return max(curve, key=lambda point: point.quality)


def attained(point: CurvePoint, goal: Goal) -> bool:
    """Tell whether a point is at the goal, or above; of several tasks each one must be."""
    if isinstance(goal, Mapping):
        return all(point.scores[task] >= score for task, score in goal.items())
    return point.quality >= goal


def reached(curve: Sequence[CurvePoint], goal: Goal) -> CurvePoint | None:
    """Return the first point at which the goal is reached, if there is one."""
    return next((point for point in curve if attained(point, goal)), None)


def cost(curve: Sequence[CurvePoint], goal: Goal, what: str) -> Cost | None:
    """Return the cost of reaching the goal: `time_s`, `flops`, ... of a point; None where it was not measured."""
    point = reached(curve, goal)
    value: float | None = getattr(point or curve[-1], what)
    return None if value is None else Cost(value, censored=point is None)
