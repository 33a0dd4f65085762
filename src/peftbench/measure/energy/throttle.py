"""The decision about rounds during which a GPU slowed itself down: pure functions of NVML's readings."""

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
"""Clock events that make a time wrong. A power cap is not among them: a GPU at full load normally runs into it."""

LIMITS: Final = frozenset({"application clocks", "power cap", "sync boost", "board limit", "reliability limit"})
"""Clock events that are a state of the machine. They are reported, and the rounds are kept."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often rounds are taken, and how long the device cools down between two attempts."""

    attempts: int = 3
    """Largest number of attempts, the first included."""
    pause_s: float = 10.0
    """Seconds between two attempts."""

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.pause_s < 0:
            raise UserError(f"{self}: attempts must be at least 1 and pause_s at least 0")


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether rounds are kept or taken again."""

    again: bool
    """Whether the rounds are discarded and, after a pause, taken again."""
    warning: str = ""
    """The warning for the record if rounds are kept in spite of a slowdown, else ''."""


def decide(before: DeviceState, after: DeviceState, *, attempt: int, patience: Patience) -> Decision:
    """Decide about rounds that were taken between two readings. An unreadable state never leads to another attempt.

    A slowdown that begins and ends between the readings is not seen.

    Args:
        before: State right before the rounds.
        after: State right after the rounds.
        attempt: Number of this attempt, from 1.
        patience: Largest number of attempts.
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
