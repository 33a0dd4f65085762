"""The outputs of a model in evaluation mode, and their comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import torch

from peftbench.errors import ValidityError

if TYPE_CHECKING:
    from peftbench.tasks.base import Batch

Outputs = tuple[torch.Tensor, ...]
"""The floating-point tensors among the outputs, in order: logits, or those of start and end, ... The loss is left out,
since some methods add a regulariser to it, which a merged or reloaded model does not have."""

_TOLERANCES: Final[Mapping[torch.dtype, float]] = {
    torch.float64: 1e-10,
    torch.float32: 1e-5,
    torch.float16: 5e-3,
    torch.bfloat16: 5e-2,
}
_TF32_TOLERANCE: Final = 5e-3
_LEAST_SCALE: Final = 0.1
"""Least scale to which differences are relative. Smaller logits are sums whose terms cancelled, so their relative
rounding errors are large."""


def evaluate(model: torch.nn.Module, batch: Batch) -> Outputs:
    """Return the outputs of `model` in evaluation mode. The model stays in that mode.

    Raises:
        ValidityError: an output is not finite.
    """
    model.eval()
    with torch.no_grad():
        named = model(**batch).items()
    outputs = tuple(v for name, v in named if name != "loss" and isinstance(v, torch.Tensor) and v.is_floating_point())
    if not all(bool(tensor.isfinite().all()) for tensor in outputs):
        raise ValidityError("the output in evaluation mode is not finite")
    return outputs


def is_equal(left: Outputs, right: Outputs) -> bool:
    """Return whether two outputs are equal in every element."""
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def difference(left: Outputs, right: Outputs) -> float:
    """Return the largest difference of two outputs, relative to the largest element of the tensor (at least 0.1).

    Raises:
        ValidityError: the outputs differ in number or shape.
    """
    if [tensor.shape for tensor in left] != [tensor.shape for tensor in right]:
        raise ValidityError("the outputs differ in shape")
    return max((_relative(a, b) for a, b in zip(left, right, strict=True)), default=0.0)


def tolerance(outputs: Outputs) -> float:
    """Return the largest `difference` that counts as rounding, since sums may be taken in another order.

    It is that of the coarsest dtype, or of TF32 if float32 products may run in it.
    """
    coarsest = max(_TOLERANCES[tensor.dtype] for tensor in outputs)
    uses_tf32 = torch.get_float32_matmul_precision() != "highest" and any(tensor.is_cuda for tensor in outputs)
    return max(coarsest, _TF32_TOLERANCE) if uses_tf32 else coarsest


def _relative(left: torch.Tensor, right: torch.Tensor) -> float:
    scale = max(float(left.abs().max()), _LEAST_SCALE)
    return float((left - right).abs().max()) / scale
