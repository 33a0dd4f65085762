"""What can be timed: a function that is called round by round, and what it needs between the rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch

BATCHES: Final = 4
"""Batches in rotation, all of one shape: rounds are alike, and none finds the last one's input in a cache."""

Mark = Callable[[], None]
"""Called at the end of each phase of a round; costs one clock reading (CPU) or one event record (CUDA)."""


def nothing() -> None:
    """Stand for what a trial need not do, and for a mark that nobody reads."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A workload on one subject, ready to be timed."""

    model: torch.nn.Module
    """Whose parameters and memory are told."""
    run: Callable[[int, Mark], object]
    """One round, given its number; calls the mark once at the end of each of the workload's phases."""
    prepare: Callable[[int], None] | None = None
    """What must happen before each round, outside its time."""
    optimizer: torch.optim.Optimizer | None = None
    close: Callable[[], None] = nothing
    """Called when there are no more rounds to come."""
    representative: int = BATCHES
    """Number of a round, not the first, that does all that a round ever does: counters and memory are of it.

    It should take the first batch, so that cases are counted alike: what is done hangs on where a batch is padded.
    """
    chained: bool = False
    """Whether what a round does hangs on what the one before it left."""

    def ready(self, number: int) -> None:
        """Do what must happen before a round."""
        if self.prepare is not None:
            self.prepare(number)

    def ready_after_previous(self, number: int) -> None:
        """Make a round ready; where rounds are linked, take the one before it as well."""
        if self.chained:
            self.ready(number - 1)
            self.run(number - 1, nothing)
        self.ready(number)
