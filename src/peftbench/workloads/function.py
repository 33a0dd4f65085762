"""A workload made of a user's own function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from peftbench.measure.trial import Trial
from peftbench.workloads.base import Workload
from peftbench.workloads.replay import executed

if TYPE_CHECKING:
    from peftbench.measure.trial import Mark
    from peftbench.tasks.base import Batch
    from peftbench.workloads.subject import Subject


@dataclass(frozen=True, kw_only=True)
class FunctionWorkload(Workload):
    """Calls a user's function with a batch and the model in evaluation mode, under autocast if that is set.

    The function itself must switch gradients off if it needs none.
    """

    function: Callable[[Any, Batch], object]

    @classmethod
    def of(cls, function: Callable[[Any, Batch], object]) -> Self:
        """Return the workload, named after the function."""
        return cls(name=getattr(function, "__name__", "function"), summary="a function of your own", function=function)

    def trial(self, subject: Subject) -> Trial:
        """Build the model in evaluation mode."""
        model = subject.applied_model().eval()
        function, batches, precision = self.function, subject.batches, subject.precision
        forward, device = subject.callable(model), next(model.parameters()).device

        def on_batch(batch: Batch) -> None:
            with precision.forward_context(device):
                function(forward, batch)

        def run(number: int, mark: Mark) -> None:
            del mark
            with precision.forward_context(device):
                function(forward, batches[number % len(batches)])

        return executed(Trial(model=model, run=run), subject.execution, on_batch, batches, device)
