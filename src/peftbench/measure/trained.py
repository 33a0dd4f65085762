"""What a method trains: what it claims, what receives a gradient, what changes, and what stays as it was."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

import torch

from peftbench.errors import ValidityError
from peftbench.measure.parameters import plain_name
from peftbench.methods.base import head_names, is_head
from peftbench.workloads.base import Optimization

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from peftbench.tasks.base import Batch
    from peftbench.workloads.base import Subject

Tensors = Mapping[str, torch.Tensor]
"""Parameters and buffers by name."""

_MODES: Final = (True, True, True, True, False, False, False, False)
"""Training or evaluation mode of each step. Two steps serve most methods: where a factor starts at zero, the other
factor's gradient is zero in the first. More are taken only while a tensor waits for a gradient, and each shakes it,
since a few ReLUs may all be dead where they start: what receives no gradient wherever it stands takes no part in the
loss. Those in evaluation mode serve layers that random depth skips nearly always."""
_LEAST_STEPS: Final = 2
_LEARNING_RATE: Final = 1e-3
"""Or what it takes to move the smallest element of each tensor, if its dtype is so coarse that this is more."""
_SHAKE: Final = 0.05
"""Standard deviation of what `shake` adds: more than most weights are in a random model."""
_HALF_LOSS_SCALE: Final = 1024.0
"""As a gradient scaler does in training: float16 has no room for small gradients."""
_INTEGER: Final = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes of an element -> a dtype that shows its bits."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What is remembered of a model from before a method was applied to it."""

    names: Mapping[int, str]
    """Of parameters and buffers, by identity."""
    tensors: Collection[torch.Tensor]
    """Kept so that no identity is given to another tensor."""
    heads: frozenset[str]
    head_shapes: Mapping[str, torch.Size]

    @classmethod
    def of(cls, model: PreTrainedModel) -> Self:
        """Look at a model that no method has touched."""
        tensors = named_tensors(model)
        heads = head_names(model)
        return cls(
            names={id(tensor): name for name, tensor in tensors.items()},
            tensors=tensors.values(),
            heads=heads,
            head_shapes={name: p.shape for name, p in model.named_parameters() if is_head(name, heads)},
        )


def plain_names(name: str, tensor: torch.Tensor, origin: Origin) -> tuple[str, ...]:
    """Return which of the plain model's parameters a trained tensor is, or may be a copy of; empty for a new one.

    PEFT trains a copy of the head under another name: any of the head's parameters of the same kind may be its model.
    """
    if id(tensor) in origin.names:
        return (origin.names[id(tensor)],)
    if not is_head(name, origin.heads):
        return ()
    kind = name.rpartition(".")[2]
    return tuple(n for n, shape in origin.head_shapes.items() if shape == tensor.shape and n.endswith(f".{kind}"))


def frozen_tensors(model: torch.nn.Module, origin: Origin) -> dict[str, torch.Tensor]:
    """Return what training must leave alone: all that is not trained, save buffers that the method brought.

    Those are its state: running statistics of gradients, priors that follow the weights.
    """
    names = set(origin.names.values())
    parameters = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    buffers = {n: b for n, b in model.named_buffers() if id(b) in origin.names or plain_name(n) in names}
    return parameters | buffers


def named_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and buffers by name, a shared one once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def claimed(model: torch.nn.Module, origin: Origin, *, trains_backbone: bool) -> dict[str, torch.Tensor]:
    """Return the tensors that a method says it trains: those that require a gradient.

    Raises:
        ValidityError: part of the head is frozen; or a method brings parameters and trains none of them, or trains
            weight matrices of the backbone beside them (biases and norms may be) without saying that it means to.
    """
    trained: dict[str, torch.Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
    frozen_head = Counter(origin.head_shapes.values())
    frozen_head.subtract(p.shape for name, p in trained.items() if is_head(name, origin.heads))
    if missing := [name for name, shape in origin.head_shapes.items() if frozen_head[shape] > 0]:
        raise ValidityError(f"the task head is not trained: {some(missing)} frozen")
    body = {name: p for name, p in model.named_parameters() if not is_head(name, origin.heads)}
    own = {name: p for name, p in body.items() if id(p) not in origin.names}
    if own and not own.keys() & trained.keys():
        raise ValidityError(f"none of the method's own parameters is trained: {some(list(own))} frozen")
    matrices = [name for name, p in body.items() if name in trained and name not in own and p.dim() > 1]
    if own and matrices and not trains_backbone:
        raise ValidityError(f"weights of the backbone are trained beside the method's own: {some(matrices)}")
    return trained


def snapshot(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Copy tensors to the CPU, so that no second model stands on the device."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


@dataclass(frozen=True, slots=True)
class Training:
    """What a few optimizer steps showed."""

    steps: int
    without_gradient: frozenset[str]
    """Trained tensors whose gradient was missing, or zero in every element, in each step."""


def take_steps(subject: Subject, model: torch.nn.Module, trained: Tensors, batches: Sequence[Batch]) -> Training:
    """Train as real training does: the method's regulariser in the loss, its optimizer, its hook after each step.

    Only the learning rate is another one, and weight decay is off, so that only gradients move weights.

    Raises:
        ValidityError: the loss or a gradient is not finite.
    """
    method, precision = subject.method, subject.precision
    device = next(model.parameters()).device
    learning_rate = max(_LEARNING_RATE, *(torch.finfo(p.dtype).eps * _smallest(p) for p in trained.values()))
    optimization = Optimization(learning_rate=learning_rate, weight_decay=0.0)
    optimizer = replace(subject, optimization=optimization).optimizer(model)
    loss_scale = _HALF_LOSS_SCALE if precision.dtype == "float16" else 1.0
    hook = method.step_hook(model)
    waiting = dict(trained)
    for step, is_training in enumerate(_MODES, start=1):
        optimizer.zero_grad(set_to_none=True)
        model.train(is_training)
        if step > _LEAST_STEPS:
            shake(waiting.values(), zeros=True)
        with precision.forward_context(device):
            loss = model(**batches[(step - 1) % len(batches)]).loss
            extra = method.auxiliary_loss(model)
            loss = loss if extra is None else loss + extra
        if not math.isfinite(loss.item()):
            raise ValidityError(f"the loss is {loss.item()} in step {step}")
        (loss * loss_scale).backward()
        largest = largest_gradients(trained)
        if bad := [name for name, value in largest.items() if not math.isfinite(value)]:
            raise ValidityError(f"the gradient is not finite in step {step}: {some(bad)}")
        waiting = {name: p for name, p in waiting.items() if not largest.get(name)}
        optimizer.step()
        if hook is not None:
            hook(step - 1)
        if step >= _LEAST_STEPS and not waiting:
            break
    optimizer.zero_grad(set_to_none=True)
    return Training(steps=step, without_gradient=frozenset(waiting))


def shake(parameters: Iterable[torch.Tensor], *, zeros: bool) -> None:
    """Move parameters at random, to where they matter; elements that are zero, since pruned perhaps, only if asked."""
    with torch.no_grad():
        for parameter in parameters:
            noise = torch.randn_like(parameter)
            parameter.add_(noise if zeros else noise * (parameter != 0), alpha=_SHAKE)


def largest_gradients(tensors: Tensors) -> dict[str, float]:
    """Return the largest absolute element of each gradient, where there is one; waits for the device once."""
    gradients = {name: tensor.grad for name, tensor in tensors.items() if tensor.grad is not None}
    if not gradients:
        return {}
    norms = [torch.linalg.vector_norm(gradient, ord=math.inf).float() for gradient in gradients.values()]
    return dict(zip(gradients, torch.stack(norms).tolist(), strict=True))


def check_changes(
    before: Tensors, after: Tensors, trained: Collection[str], training: Training, idle: Callable[[], Collection[str]]
) -> tuple[str, ...]:
    """Check that what is trained received gradients and changed, and that the rest is what it was, bit by bit.

    Args:
        before: A `snapshot` from before the steps of what is trained and what is frozen.
        after: Parameters and buffers after them.
        trained: Names of those that are trained.
        training: What the steps showed.
        idle: Returns the names (as after the method was applied) of tensors of the plain model that its output does
            not depend on; called only if a trained tensor stood still, which it then may.

    Returns:
        The trained tensors that stood still rightly.

    Raises:
        ValidityError: otherwise; says which tensors.
    """
    if gone := sorted(before.keys() - after.keys()):
        raise ValidityError(f"training removed {some(gone)}")
    changed = {name for name, tensor in before.items() if not _same_bits(tensor, after[name])}
    if touched := [name for name in before if name in changed and name not in trained]:
        raise ValidityError(f"training changed what is frozen: {some(touched)}")
    still = [name for name in trained if name in training.without_gradient or name not in changed]
    excused = set(idle()) if still else set()
    wrong = [name for name in still if name not in excused]
    if starved := [name for name in wrong if name in training.without_gradient]:
        raise ValidityError(f"no gradient reaches {some(starved)} in {training.steps} steps")
    if wrong:
        raise ValidityError(f"{some(wrong)} did not change in {training.steps} steps")
    return tuple(still)


def idle_parameters(plain: PreTrainedModel, batches: Iterable[Batch]) -> frozenset[str]:
    """Return the parameters of a plain model that its loss does not depend on, save by rounding.

    A bias that is added to every key is the example: attention weights do not move with it, so its gradient is zero
    in exact arithmetic. A gradient below the resolution of the largest one counts as zero.
    """
    plain.train()
    for batch in batches:
        plain(**batch).loss.backward()
    parameters = dict(plain.named_parameters())
    largest = largest_gradients(parameters)
    top = max(largest.values(), default=0.0)
    idle = {n for n, p in parameters.items() if largest.get(n, 0.0) <= top * torch.finfo(p.dtype).eps}
    plain.zero_grad(set_to_none=True)
    return frozenset(idle)


def _smallest(parameter: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(parameter.detach(), ord=-math.inf))


def _same_bits(before: torch.Tensor, after: torch.Tensor) -> bool:
    after = after.detach().cpu()
    if before.shape != after.shape or before.dtype != after.dtype:
        return False
    bits = _INTEGER.get(before.element_size())
    return torch.equal(before, after) if bits is None else torch.equal(before.view(bits), after.view(bits))


def some(names: Sequence[str]) -> str:
    """Name the first of some tensors and say how many more there are."""
    first = plain_name(names[0])
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"
