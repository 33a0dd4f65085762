"""A few steps of real training, and which tensors received gradients and changed in them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from peftbench.devices.residency import free_bytes, resides
from peftbench.errors import ValidityError
from peftbench.methods.optimization import Optimization
from peftbench.methods.quantized.storage import plain_tensors
from peftbench.validity.promises import Origin, Promises, Tensors, named_tensors, some

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from peftbench.tasks.base import Batch
    from peftbench.workloads.subject import Subject

_MODES: Final = (*(True,) * 8, *(False,) * 4)
"""Mode of each step: True is training, False is evaluation.

Most methods need two steps: if one factor of a product starts at zero, the other factor has no gradient in the first
step. Further steps are taken only while a tensor has received no gradient. Each of them first adds noise to such a
tensor, since a few ReLUs may all be dead at its initial value. A tensor that receives no gradient at any value takes no
part in the loss. Many steps in training mode serve parts that take turns; steps in evaluation mode serve layers that
random depth nearly always skips."""
_LEAST_STEPS: Final = 2
_LEARNING_RATE: Final = 1e-3
"""Least learning rate. In half precision it is larger if needed to change the smallest element of each tensor."""
_HALF: Final = (torch.float16, torch.bfloat16)
_SEARCH: Final = 0.1
"""Standard deviation of the noise that is added to a tensor without a gradient. It is larger than most elements."""
_HALF_LOSS_SCALE: Final = 1024.0
"""Factor of the loss in float16, as of a gradient scaler: float16 cannot represent small gradients."""
_ROUNDED: Final = 32
"""A gradient below 32 x machine epsilon x the largest gradient counts as zero. It is a sum over rows, which rounds."""
_EPSILON: Final = 1e-8
"""AdamW divides a gradient by its size plus this. A step moves no element further than gradient x rate / epsilon."""
Snapshot = Mapping[str, tuple[torch.Tensor, ...]]
"""Copies of tensors by name; a quantised one has several parts."""
_INTEGER: Final = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes of an element -> a dtype that shows its bits."""


@dataclass(frozen=True, slots=True)
class ShortTraining:
    """The result of a few optimizer steps."""

    steps: int
    starved: frozenset[str]
    """Names of trained tensors whose gradient was missing, or zero in every element, in each step."""
    faint: frozenset[str] = frozenset()
    """Names of trained tensors whose gradient was there, and too small to move their largest element (`_EPSILON`)."""


def train(subject: Subject, model: torch.nn.Module, trained: Tensors, batches: Sequence[Batch]) -> ShortTraining:
    """Train a few steps with the method's regulariser in the loss, its optimizer, and its hook after each step.

    Two things differ from a real training. The learning rate is another one. Weight decay is off, so that only
    gradients change weights.

    Raises:
        ValidityError: the loss or a gradient is not finite.
    """
    method, precision = subject.method, subject.precision
    device = next(model.parameters()).device
    learning_rate = max(_LEARNING_RATE, *(_moving_rate(p) for p in trained.values()))
    optimization = Optimization(learning_rate=learning_rate, weight_decay=0.0)
    optimizer = replace(subject, optimization=optimization).optimizer(model)
    loss_scale = _HALF_LOSS_SCALE if precision.dtype == "float16" else 1.0
    hook = method.step_hook(model)
    waiting, seen = dict(trained), dict.fromkeys(trained, 0.0)
    for step, is_training in enumerate(_MODES, start=1):
        optimizer.zero_grad(set_to_none=True)
        model.train(is_training)
        if step > _LEAST_STEPS:
            perturb(waiting.values(), _SEARCH, zeros=True)
        with precision.forward_context(device):
            loss = model(**batches[(step - 1) % len(batches)]).loss
            extra = method.auxiliary_loss(model)
            loss = loss if extra is None else loss + extra
        if not math.isfinite(loss.item()):
            raise ValidityError(f"the loss is {loss.item()} in step {step}")
        if not loss.requires_grad:  # what is trained lies in a part that the task does not use, such as one for images
            raise ValidityError(f"no gradient reaches {some([*trained])}: the loss does not depend on it")
        (loss * loss_scale).backward()
        largest = _largest_gradients(trained)
        if bad := [name for name, value in largest.items() if not math.isfinite(value)]:
            raise ValidityError(f"the gradient is not finite in step {step}: {some(bad)}")
        waiting = {name: p for name, p in waiting.items() if not largest.get(name)}
        seen |= {name: max(seen[name], value) for name, value in largest.items()}
        optimizer.step()
        if hook is not None:
            hook(step - 1)
        if step >= _LEAST_STEPS and not waiting:
            break
    optimizer.zero_grad(set_to_none=True)
    faint = {n for n, p in trained.items() if 0 < seen[n] < _least_felt(p, learning_rate)}
    return ShortTraining(steps=step, starved=frozenset(waiting), faint=frozenset(faint))


def snapshot(promises: Promises) -> Snapshot:
    """Return copies of all trained and frozen tensors: on their device if they may reside there, else on the CPU."""
    promised = {**promises.trained, **promises.frozen}
    tensors = {name: plain_tensors(tensor) for name, tensor in promised.items()}
    every = [part for parts in tensors.values() for part in parts]
    size_bytes = sum(part.numel() * part.element_size() for part in every)
    devices = {part.device for part in every if part.is_cuda}
    stays = bool(devices) and all(resides(size_bytes, free_bytes(device)) for device in devices)
    return {
        name: tuple(part.detach().clone() if stays else part.detach().to("cpu", copy=True) for part in parts)
        for name, parts in tensors.items()
    }


def standing_still(before: Snapshot, model: torch.nn.Module, promises: Promises, training: ShortTraining) -> list[str]:
    """Return the names of trained tensors that received no gradient or did not change.

    Args:
        before: The `snapshot` before the steps.
        model: The model after the steps.
        promises: The tensors that must change, and those that must not.
        training: The result of the steps.

    Raises:
        ValidityError: a tensor is gone, or a bit of a frozen one changed.
    """
    after = named_tensors(model)
    if gone := sorted(before.keys() - after.keys()):
        raise ValidityError(f"training removed {some(gone)}")
    changed = {name for name, parts in before.items() if not _same_parts(parts, plain_tensors(after[name]))}
    if touched := [name for name in promises.frozen if name in changed]:
        raise ValidityError(f"training changed what is frozen: {some(touched)}")
    return [name for name in promises.trained if name in training.starved or name not in changed]


def require_idle(
    still: Sequence[str], promises: Promises, training: ShortTraining, origin: Origin, idle: frozenset[str]
) -> None:
    """Check that tensors without change got a faint gradient, or that the plain model's loss does not depend on them.

    Args:
        still: Names of trained tensors that did not change (`standing_still`).
        promises: The tensors that must change.
        training: The result of the steps.
        origin: The plain model, which gives the tensors' names there.
        idle: The plain model's `idle_parameters`.

    Raises:
        ValidityError: the loss depends on one of the tensors, or the method added it.
    """
    plain = {
        name: origin.counterparts(name, promises.trained[name]) or origin.adapted(name.removeprefix(promises.place))
        for name in still
        if name not in training.faint
    }
    wrong = [name for name, names in plain.items() if not names or not idle.issuperset(names)]
    if starved := [name for name in wrong if name in training.starved]:
        raise ValidityError(f"no gradient reaches {some(starved)} in {training.steps} steps")
    if wrong:
        raise ValidityError(f"{some(wrong)} did not change in {training.steps} steps")


def idle_parameters(plain: PreTrainedModel, batches: Iterable[Batch]) -> frozenset[str]:
    """Return the names of a plain model's parameters on which its loss does not depend, except by rounding.

    An example is a bias that is added to every key. Attention weights do not depend on it, so its gradient is zero in
    exact arithmetic. A gradient of rounding size counts as zero (`_ROUNDED`).
    """
    plain.train()
    for batch in batches:
        plain(**batch).loss.backward()
    parameters = dict(plain.named_parameters())
    largest = _largest_gradients(parameters)
    top = max(largest.values(), default=0.0)
    idle = {n for n, p in parameters.items() if largest.get(n, 0.0) <= top * _ROUNDED * torch.finfo(p.dtype).eps}
    plain.zero_grad(set_to_none=True)
    return frozenset(idle)


def perturb(parameters: Iterable[torch.Tensor], deviation: float, *, zeros: bool) -> None:
    """Add noise of a standard deviation to parameters. Elements that are zero, maybe pruned, change only if `zeros`."""
    with torch.no_grad():
        for parameter in parameters:
            noise = torch.randn_like(parameter)
            parameter.add_(noise if zeros else noise * (parameter != 0), alpha=deviation)


def _largest_gradients(tensors: Tensors) -> dict[str, float]:
    """Return the largest absolute element of each gradient by name. Tensors without one are left out.

    The device is synchronised once.
    """
    gradients = {name: tensor.grad for name, tensor in tensors.items() if tensor.grad is not None}
    if not gradients:
        return {}
    ends = [torch.aminmax(gradient) for gradient in gradients.values()]
    largest = torch.stack([torch.maximum(-low, high).float() for low, high in ends])
    return dict(zip(gradients, largest.tolist(), strict=True))


def _least_felt(parameter: torch.Tensor, learning_rate: float) -> float:
    """Return the gradient below which a step of AdamW does not move the largest element by as much as its rounding."""
    rounding = torch.finfo(parameter.dtype).eps * float(parameter.detach().abs().max())
    return rounding * _EPSILON / learning_rate


def _moving_rate(parameter: torch.Tensor) -> float:
    resolution = torch.finfo(parameter.dtype).eps
    return resolution * float(parameter.detach().abs().min()) if parameter.dtype in _HALF else 0.0


def _same_parts(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> bool:
    return len(before) == len(after) and all(map(_same_bits, before, after))


def _same_bits(before: torch.Tensor, after: torch.Tensor) -> bool:
    after = after.detach().to(before.device)
    if before.shape != after.shape or before.dtype != after.dtype:
        return False
    bits = _INTEGER.get(before.element_size())
    return torch.equal(before, after) if bits is None else torch.equal(before.view(bits), after.view(bits))
