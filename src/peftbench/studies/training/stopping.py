"""When a training ends, and what it cost to reach a quality: pure functions of its curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from peftbench.records.record import CurvePoint

Stop = Literal["patience", "target", "budget"]
Goal = float | Mapping[str, float]
"""A quality, or a score for each of several tasks."""


@dataclass(frozen=True, slots=True)
class StoppingRule:
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
