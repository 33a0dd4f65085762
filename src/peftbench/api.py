"""What other programs call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from peftbench.errors import UnsupportedError, UserError
from peftbench.matrix.cases import select_methods
from peftbench.matrix.catalogue import Catalogue
from peftbench.matrix.folders import with_folders
from peftbench.methods.base import Application
from peftbench.records.ids import Scalar

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from peftbench.tasks.base import Batch, Head, Task


def apply_method(
    name: str,
    model: PreTrainedModel,
    /,
    *,
    task: str | Task | None = None,
    seed: int = 0,
    total_steps: int = 1000,
    batches: Sequence[Batch] = (),
    **overrides: Scalar,
) -> torch.nn.Module:
    """Make a model with a task head ready to be trained by a method, as the benchmarks do.

    Args:
        name: the method's name, as in `--peftbench-methods`, or the path of an adapter's folder.
        model: a transformers model with its task head; it may be changed in place.
        task: what the model will learn, or its name; None: any task for the model's head.
        seed: from which the method's new weights follow.
        total_steps: length of the training, which some methods schedule by.
        batches: a few batches of the task with labels, on the model's device, for methods that start from data.
        **overrides: changes to the method's default configuration.

    Returns:
        The model, in which exactly the method's parameters and the head require a gradient.

    Raises:
        UnsupportedError: the method cannot do the task or the model; says why.
        UserError: an unknown name, a head that does not fit, or an override that is unknown or does not fit.
    """
    catalogue = with_folders(Catalogue.load(), [name])
    (spec, *others) = select_methods([name], catalogue.methods, catalogue.folders)
    if others or spec.overrides:
        raise UserError(f"{name!r} is no single method: give its name, and overrides as keyword arguments")
    method = catalogue.method(spec.name)
    method.check(overrides)
    chosen = _task(task, model, catalogue)
    if reason := method.unsupported(chosen, architecture=model.config.model_type):
        raise UnsupportedError(f"{name} cannot do {chosen.name}: {reason}")
    application = Application(
        task=chosen, overrides=overrides, seed=seed, total_steps=total_steps, batches=tuple(batches)
    )
    return method.apply(model, application)


def _task(wanted: str | Task | None, model: PreTrainedModel, catalogue: Catalogue) -> Task:
    if wanted is None:
        found = next((task for task in catalogue.tasks.values() if _fits(task.head, model)), None)
        if found is None:
            raise UserError(f"{type(model).__name__} has no task head; its class must be one of {_known(catalogue)}")
        return found
    task = catalogue.task(wanted) if isinstance(wanted, str) else wanted
    if not _fits(task.head, model):
        raise UserError(f"task {task.name} needs a model of {task.head}, this is a {type(model).__name__}")
    return task


def _fits(head: Head, model: PreTrainedModel) -> bool:
    return type(model).__name__.endswith(head.removeprefix("AutoModel"))


def _known(catalogue: Catalogue) -> str:
    return ", ".join(dict.fromkeys(task.head.replace("AutoModel", "*") for task in catalogue.tasks.values()))
