"""The trial: a function that is called once a round, and what it needs between the rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch

    from peftbench.records.record import Metric

BATCHES: Final = 4
"""Number of batches in rotation, all of one shape. No round uses the batch of the round before it, still in a cache."""

Mark = Callable[[], None]
"""A function that a round calls at the end of each phase. It costs one clock reading (CPU) or event record (CUDA)."""


def nothing() -> None:
    """Do nothing: the default of `Trial.close`, and a mark that nobody reads."""


def no_metrics() -> Mapping[str, Metric]:
    """Return no metrics: the default of `Trial.found`."""
    return {}


@dataclass(frozen=True, slots=True)
class Trial:
    """A workload on one subject, ready to be timed."""

    model: torch.nn.Module
    """The model whose parameters and memory are reported."""
    run: Callable[[int, Mark], object]
    """Runs one round, given its index. It calls the mark once at the end of each of the workload's phases."""
    prepare: Callable[[int], None] | None = None
    """Prepares a round, given its index. It is called before each round, outside its time."""
    optimizer: torch.optim.Optimizer | None = None
    close: Callable[[], None] = nothing
    """Called after the last round."""
    representative: int = BATCHES
    """Index of a representative round (not round 0).

    It performs every operation that a round can perform. Counters and memory are taken from it. It should use the
    first batch, so that all cases are counted on the same padding, on which the operations depend.
    """
    cache_bytes: int = 0
    """Bytes of a cache of keys and values that is kept between the rounds."""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    """Further metrics of the trial, which need no clock."""
    chained: bool = False
    """Whether the operations of a round depend on the state that the round before it left."""
    eager: Callable[[int, Mark], object] | None = None
    """The same round as written, if `run` replays a captured graph, which has no phases and shows no operators."""
    found: Callable[[], Mapping[str, Metric]] = no_metrics
    """Returns what the rounds found out about themselves, after the last one."""

    def ready(self, number: int) -> None:
        """Prepare round `number`, if the trial needs that."""
        if self.prepare is not None:
            self.prepare(number)

    def ready_after_previous(self, number: int) -> None:
        """Prepare round `number`; if rounds are chained, run the round before it first."""
        if self.chained:
            self.ready(number - 1)
            self.run(number - 1, nothing)
        self.ready(number)
