"""Multi-task full fine-tuning: one shared encoder, wholly trained, with a head a task; every batch is of one task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from peftbench.devices.seeding import seeded
from peftbench.errors import UnsupportedError
from peftbench.methods.base import Application, head_names
from peftbench.methods.basic import SelectiveMethod
from peftbench.methods.configuration import Configuration

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from peftbench.methods.paper.multi_task_modules import TaskTurns

TASK_TURNS: Final = "peftbench_task_turns"
"""Attribute of an applied model that holds its `TaskTurns`."""
MOST_TASKS: Final = 8
"""The validity pass takes so many steps in training mode at the most, and must see each head trained."""


@dataclass(frozen=True, slots=True)
class MultiTaskConfig:
    """What can be overridden of multi-task training."""

    tasks: int = 6
    """Heads on the encoder: the paper's tasks."""


@dataclass(frozen=True, kw_only=True)
class MultiTask(SelectiveMethod):
    """Trains all weights and several heads, one of them in each step.

    A case has the batches of one task, so the others are as large as it: each head of the task's kind takes its turn
    once in so many steps, in random order. Evaluation uses the first head, which is the plain model's. Trainings on
    the data of different tasks, in proportion to its size, are the workloads `multitask` and `adding`.
    """

    config: MultiTaskConfig = field(default_factory=MultiTaskConfig)

    def apply(self, model: PreTrainedModel, application: Application) -> torch.nn.Module:
        """Return the same model, its head replaced by one a task; the further ones are random.

        Raises:
            UnsupportedError: the model has no head.
            UserError: an override is unknown or out of range.
        """
        import torch

        from peftbench.methods.paper.multi_task_modules import TaskHeads, TaskTurns

        configuration = Configuration.of(self.name, self.config, application.overrides)
        tasks = configuration.require_at_least("tasks", 2)
        if tasks > MOST_TASKS:
            raise configuration.refusal("tasks", f"must be at most {MOST_TASKS}")
        SelectiveMethod.apply(self, model, Application(application.task, seed=application.seed))
        std = getattr(model.config, "initializer_range", 0.02)
        plain = {name: getattr(model, name) for name in sorted(head_names(model))}
        with torch.device("cpu"), seeded(application.seed):
            heads = {name: TaskHeads(head, tasks, std=std) for name, head in plain.items() if [*head.parameters()]}
        if not heads:
            raise UnsupportedError(f"{self.name}: {model.config.model_type} has no head to give each task its own")
        for name, head in heads.items():
            setattr(model, name, head)
        setattr(model, TASK_TURNS, TaskTurns(tuple(heads.values()), application.seed))
        return cast("torch.nn.Module", model)

    def step_hook(self, model: torch.nn.Module) -> Callable[[int], None]:
        """Return what gives the next step to its task; without it all steps are the first task's."""
        turns: TaskTurns = getattr(model, TASK_TURNS)

        def hook(step: int) -> None:
            turns.begin(step + 1)

        return hook

    def remove(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the plain model with the first head; it stays trained."""
        from peftbench.methods.paper.multi_task_modules import TaskHeads

        delattr(model, TASK_TURNS)
        for name, module in list(model.named_children()):
            if isinstance(module, TaskHeads):
                setattr(model, name, module.heads[0])
        return model


METHODS: Final = (
    MultiTask(
        name="mtl",
        family="paper",
        summary="every weight is trained, on several tasks by turns: one encoder, a head a task",
        source="arXiv 2305.07491, section 3; MT-DNN, arXiv 1901.11504, algorithm 1",
        picks=bool,
        together="multitask",
    ),
)
