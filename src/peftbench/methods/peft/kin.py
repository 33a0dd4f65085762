"""The built-in method that a folder's configuration belongs to, and the optimizer that its training names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from peftbench.errors import UserError
from peftbench.methods.peft import METHODS
from peftbench.methods.peft.adapter_folder import TRAINING, AdapterFolder
from peftbench.methods.peft.layers import NO_LAYERS
from peftbench.methods.peft.method import PeftMethod
from peftbench.methods.peft.targets import no_layers

if TYPE_CHECKING:
    import torch

    from peftbench.methods.optimization import Optimization

OPTIMIZERS: Final[Mapping[str, str]] = {
    "lora+": "lora-plus",
    "lora-fa": "lora-fa",
    "lora-plus": "lora-plus",
    "riemannian": "lora-riemannian",
}
"""`optimizer_type` of PEFT's comparison -> the built-in method that has this optimizer."""


def kin_of(folder: AdapterFolder) -> PeftMethod:
    """Return the built-in method of a folder's tuner whose own settings the configuration has, else its plainest."""
    built_in = [method for method in METHODS if method.tuner == folder.tuner]
    if not built_in:
        name = folder.tuner.lower()
        return PeftMethod(name=name, family="", summary="", source="", tuner=folder.tuner, targets=no_layers)
    plain = {**built_in[0].fit(NO_LAYERS), **built_in[0].defaults}
    for method in built_in[1:]:
        own = {**method.fit(NO_LAYERS), **method.defaults}
        marks = {name: value for name, value in own.items() if name not in plain}
        if marks and all(_has(folder.config.get(name), value) for name, value in marks.items()):
            return method
    return built_in[0]


def _has(found: object, mark: object) -> bool:
    """Tell whether a setting is that of a built-in method: the same word, or switched on with whatever values."""
    if isinstance(mark, str):
        return isinstance(found, str) and found.partition("_niter_")[0] == mark
    return bool(found) if isinstance(mark, bool | dict) else True


def require_optimizer(folder: AdapterFolder) -> None:
    """Raise UserError where the optimizer of a folder's training is none that a training step can call."""
    import torch

    name, known = folder.training.optimizer, f"a class of torch.optim, such as AdamW, or one of {', '.join(OPTIMIZERS)}"
    if name in OPTIMIZERS:
        return
    kind = getattr(torch.optim, name, None)
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        raise UserError(f"{folder.path / TRAINING}: unknown optimizer_type {name!r}: {known}")
    closure = inspect.signature(kind.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UserError(f"{folder.path / TRAINING}: optimizer_type {name} runs the model itself: give {known}")


def torch_optimizer(
    model: torch.nn.Module, optimization: Optimization, name: str, further: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """Return an optimizer of `torch.optim`, of the parameters that are trained.

    Args:
        model: The model with the adapter.
        optimization: Learning rate, weight decay and implementation, each passed on where the optimizer takes it.
        name: The class in `torch.optim`.
        further: Its further arguments.
    """
    import torch

    kind = getattr(torch.optim, name)
    accepted = inspect.signature(kind).parameters
    arguments = {
        "lr": optimization.learning_rate,
        "weight_decay": optimization.weight_decay,
        **optimization.implementation,
    }
    taken = {key: value for key, value in arguments.items() if key in accepted}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return cast("torch.optim.Optimizer", kind(trained, **taken, **further))
