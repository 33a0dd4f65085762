"""What to do when a GPU slowed itself down while rounds were taken: pure functions over what NVML said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peftbench.errors import UserError
from peftbench.measure.energy.nvml import DeviceState

SLOWDOWNS: Final = frozenset(
    {
        "hardware slowdown",
        "thermal slowdown (software)",
        "thermal slowdown (hardware)",
        "power brake (hardware)",
    }
)
"""Clock events that make a time wrong. A power cap is not among them: it is how a GPU at full load normally runs."""

LIMITS: Final = frozenset({"application clocks", "power cap", "sync boost", "board limit", "reliability limit"})
"""Clock events that are a state of the machine: to be known, no reason to measure again."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often rounds are taken again, and how long the device may cool down before."""

    attempts: int = 3
    """In all, the first included."""
    pause_s: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.pause_s < 0:
            raise UserError(f"{self}: attempts must be at least 1 and pause_s at least 0")


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with the rounds that were just taken."""

    again: bool
    """Throw them away, wait, and take them again."""
    warning: str = ""
    """What the record must say where they are kept in spite of a slowdown."""


def decide(before: DeviceState, after: DeviceState, *, attempt: int, patience: Patience) -> Decision:
    """Decide about rounds between two readings; an unreadable state never leads to another attempt.

    A slowdown that came and went between the readings is not seen.

    Args:
        before: State right before the rounds.
        after: State right after them.
        attempt: Which attempt this was, from 1.
        patience: How often to try.
    """
    slow = ", ".join(sorted(_events(before, after) & SLOWDOWNS))
    if not slow:
        return Decision(again=False)
    if attempt < patience.attempts:
        return Decision(again=True)
    return Decision(again=False, warning=f"the GPU slowed down in {attempt} of {attempt} attempts: {slow}")


def limits(before: DeviceState, after: DeviceState) -> tuple[str, ...]:
    """Return the names of the limits that were on, for the record."""
    return tuple(sorted(_events(before, after) & LIMITS))


def _events(*states: DeviceState) -> frozenset[str]:
    return frozenset[str]().union(*(state.clock_events.value or () for state in states))
