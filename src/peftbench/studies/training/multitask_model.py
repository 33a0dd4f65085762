"""One encoder with one head for each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel

    from peftbench.tasks.base import Batch, Features

TASK: Final = "task"
"""Name of the tensor in a batch that holds the number of its task. The tensor has shape [] and is on the CPU."""


class MultiTaskModel(nn.Module):
    """Models of several tasks that share one backbone module.

    Args:
        models: One model with its head for each task, all of one architecture and one checkpoint. They are changed in
            place: all get the backbone of the first model that has all layers (some heads need no pooler).
    """

    def __init__(self, models: Mapping[str, PreTrainedModel]) -> None:
        super().__init__()
        largest = max(models.values(), key=lambda model: sum(1 for _ in model.base_model.parameters()))
        self.backbone = largest.base_model
        for model in models.values():
            setattr(model, model.base_model_prefix, self.backbone)
        self.models = nn.ModuleList(models.values())
        self.tasks = tuple(models)

    def add(self, task: str, model: PreTrainedModel) -> None:
        """Add a task with a new head. Its model gets the shared backbone, and gives it a pooler if it has none."""
        pooler = getattr(model.base_model, "pooler", None)
        if pooler is not None and self.backbone.pooler is None:  # none of the old heads needed one
            self.backbone.pooler = pooler
        setattr(model, model.base_model_prefix, self.backbone)
        self.models.append(model)
        self.tasks = (*self.tasks, task)

    def forward(self, task: torch.Tensor, **batch: torch.Tensor) -> Any:  # noqa: ANN401 - an output of transformers
        """Return the output of the task's own model."""
        return self.models[int(task)](**batch)

    def head_bytes(self, task: str) -> int:
        """Return the bytes of the weights that only this task uses."""
        model = self.models[self.tasks.index(task)]
        shared = {id(parameter) for parameter in self.backbone.parameters()}
        return sum(p.numel() * p.element_size() for p in model.parameters() if id(p) not in shared)


def marked(collate: Callable[[Sequence[Features]], Batch], number: int) -> Callable[[Sequence[Features]], Batch]:
    """Return a function that makes batches which carry `number` as the number of their task."""
    mark = torch.tensor(number)
    return lambda features: {**collate(features), TASK: mark}
