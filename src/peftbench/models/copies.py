"""Copies of a template model on a device, without a second copy in the host's memory."""

from __future__ import annotations

import copy
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from peftbench.devices.residency import Place

Model = TypeVar("Model", bound="torch.nn.Module")


def copied_to(template: Model, device: torch.device) -> Model:
    """Return a copy of a model on a device.

    Each tensor goes to the device once. `copy.deepcopy` would first copy it where it is. Tensors of other classes than
    torch's own (quantised ones) are left to `copy.deepcopy`, and moved afterwards.
    """
    import torch

    known: dict[int, object] = {}
    for tensor in _tensors(template):
        if type(tensor) is torch.nn.Parameter:
            moved = tensor.detach().to(device, non_blocking=True, copy=True)
            known[id(tensor)] = torch.nn.Parameter(moved, requires_grad=tensor.requires_grad)
        elif type(tensor) is torch.Tensor:
            known[id(tensor)] = tensor.detach().to(device, non_blocking=True, copy=True)
    return copy.deepcopy(template, known).to(device)


def settled(template: Model, place: Place, device: torch.device) -> Model:
    """Return a template at its place: on the device, or in the host's memory, pinned or not. It is moved."""
    if place == "device":
        return template.to(device)
    if place == "pinned":
        for tensor in _tensors(template):
            tensor.data = tensor.data.pin_memory()
    return template


def size_bytes(model: torch.nn.Module) -> int:
    """Return the bytes of parameters and buffers. Tensors that are tied count once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(model))


def _tensors(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    return chain(model.parameters(), model.buffers())
