"""The tensors in which a model holds its weights, quantised or not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def plain_tensors(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the tensors that hold the bits of a tensor: itself, or those of which a quantised one is made.

    torchao's tensors wrap integers and scales. Those of bitsandbytes are packed integers, and four-bit ones have their
    scales in an attribute.
    """
    from torch.utils._python_dispatch import is_traceable_wrapper_subclass

    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        inner = [getattr(tensor, name) for name in names]
        return tuple(part for held in inner if held is not None for part in plain_tensors(held))
    state = getattr(tensor, "quant_state", None)
    return (tensor, *_scales(state)) if state is not None else (tensor,)


def held_tensors(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Yield the tensors that hold a model's parameters and buffers. A storage may appear more than once."""
    for tensor in (*model.parameters(), *model.buffers()):
        yield from plain_tensors(tensor)
        yield from _tensors_of(tensor, "CB", "SCB")
    for module in model.modules():  # the first forward pass of an 8-bit layer of bitsandbytes moves its scales here
        yield from _tensors_of(module.__dict__.get("state"), "CB", "SCB")


def elements(tensor: torch.Tensor) -> int:
    """Return the number of weights in a parameter; two of four bits share a byte in bitsandbytes' tensors."""
    state = getattr(tensor, "quant_state", None)
    return math.prod(state.shape) if state is not None else tensor.numel()


def _scales(state: Any) -> Iterator[torch.Tensor]:  # noqa: ANN401 - bitsandbytes' QuantState
    yield from _tensors_of(state, "absmax", "code", "offset")
    yield from _tensors_of(getattr(state, "state2", None), "absmax", "code", "offset")


def _tensors_of(holder: object, *names: str) -> Iterator[torch.Tensor]:
    import torch

    found = (getattr(holder, name, None) for name in names)
    return (value for value in found if isinstance(value, torch.Tensor))
