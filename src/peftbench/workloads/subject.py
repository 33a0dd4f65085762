"""A method on a task: what a workload makes its trial of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from peftbench.devices.compiling import compiled
from peftbench.devices.precision import Precision
from peftbench.methods.optimization import Optimization

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from peftbench.methods.base import Application, Method
    from peftbench.tasks.base import Batch


@dataclass(frozen=True, slots=True)
class Subject:
    """A method on a task, from which a workload makes what it times."""

    method: Method
    application: Application
    batches: Sequence[Batch]
    """On the device; round i takes batch i modulo their number."""
    fresh_model: Callable[[], PreTrainedModel]
    """Makes another copy of the model with its task head, untouched by any method, on the device."""
    precision: Precision = Precision()
    compile: bool = False
    optimization: Optimization = Optimization()

    def applied_model(self) -> torch.nn.Module:
        """Return a fresh model with the method applied."""
        return self.method.apply(self.fresh_model(), self.application)

    def callable(self, model: torch.nn.Module) -> Callable[..., Any]:
        """Return what a round calls: the model, or its compiled form."""
        return compiled(model) if self.compile else model

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return the method's own optimizer, else AdamW over the parameters that are trained."""
        import torch

        optimization = replace(self.optimization, implementation=self.precision.optimizer_arguments())
        return self.method.optimizer(model, optimization) or torch.optim.AdamW(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr=optimization.learning_rate,
            weight_decay=optimization.weight_decay,
            **optimization.implementation,
        )
