"""The subject: a method on a task, from which a workload makes its trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from peftbench.devices.compiling import compiled
from peftbench.devices.execution import Execution
from peftbench.devices.precision import Precision
from peftbench.methods.optimization import Optimization

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from peftbench.methods.base import Application, Method
    from peftbench.tasks.base import Batch


@dataclass(frozen=True, slots=True)
class Subject:
    """A method on a task, from which a workload makes its trial."""

    method: Method
    application: Application
    batches: Sequence[Batch]
    """Batches on the device. Round i takes batch i modulo their number."""
    fresh_model: Callable[[], PreTrainedModel]
    """Makes a new copy of the model with its task head, on the device, with no method applied."""
    precision: Precision = Precision()
    execution: Execution = Execution()
    optimization: Optimization = Optimization()

    def applied_model(self) -> torch.nn.Module:
        """Return a fresh model with the method applied."""
        return self.method.apply(self.fresh_model(), self.application)

    def callable(self, model: torch.nn.Module) -> Callable[..., Any]:
        """Return the model, or its compiled form if the execution compiles."""
        return compiled(model, self.execution.compile_mode) if self.execution.compiles else model

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return the method's own optimizer, or AdamW of the trainable parameters if it has none.

        The base step of a language model trains nothing: its optimizer holds a group without parameters.
        """
        import torch

        implementation = self.precision.optimizer_arguments()
        if self.execution.captures:
            implementation["capturable"] = True  # the number of steps stays on the device
        optimization = replace(self.optimization, implementation=implementation)
        return self.method.optimizer(model, optimization) or torch.optim.AdamW(
            [{"params": [parameter for parameter in model.parameters() if parameter.requires_grad]}],
            lr=optimization.learning_rate,
            weight_decay=optimization.weight_decay,
            **optimization.implementation,
        )
