"""The end of a training, and the cost to reach a quality: pure functions of its curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from peftbench.records.record import CurvePoint

Stop = Literal["patience", "target", "budget"]
Goal = float | Mapping[str, float]
"""A quality, or the score of each task if there are several."""


@dataclass(frozen=True, slots=True)
class StoppingRule:
    """The rule that ends a training, besides its budget of steps."""

    stop: str = "patience"
    """One of `choices.STOPS`."""
    patience_steps: int = 0
    """Steps since the best evaluation after which a training ends (not with stop `budget`)."""
    target: Goal | None = None

    def reason(self, curve: Sequence[CurvePoint], total_steps: int) -> Stop | None:
        """Return what ends the training after the last evaluation of `curve`, or None if it goes on."""
        last = curve[-1]
        if self.stop == "target" and self.target is not None and attained(last, self.target):
            return "target"
        if self.stop != "budget" and last.step - best(curve).step >= self.patience_steps:
            return "patience"
        return "budget" if last.step >= total_steps else None


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost to reach a quality."""

    value: float
    censored: bool = False
    """Whether the quality was never reached. `value` is then the cost of the whole training, a lower bound."""


def best(curve: Sequence[CurvePoint]) -> CurvePoint:
    """Return the first point of the highest quality."""
    return max(curve, key=lambda point: point.quality)


def attained(point: CurvePoint, goal: Goal) -> bool:
    """Return whether a point has reached the goal. If there are several tasks, each one must have."""
    if isinstance(goal, Mapping):
        return all(point.scores[task] >= score for task, score in goal.items())
    return point.quality >= goal


def reached(curve: Sequence[CurvePoint], goal: Goal) -> CurvePoint | None:
    """Return the first point at which the goal is reached, or None."""
    return next((point for point in curve if attained(point, goal)), None)


def cost(curve: Sequence[CurvePoint], goal: Goal, what: str) -> Cost | None:
    """Return the cost to reach the goal, or None if it was not measured.

    Args:
        curve: The points of a training, at least one.
        goal: The quality to reach.
        what: The field of a point that holds the cost: `time_s`, `flops`, ...
    """
    point = reached(curve, goal)
    value: float | None = getattr(point or curve[-1], what)
    return None if value is None else Cost(value, censored=point is None)
