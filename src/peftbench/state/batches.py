"""The batches of a group, which its cases share: a method can change them in place, and the next one is blamed."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import torch

from peftbench.state.facet import Facet

if TYPE_CHECKING:
    from peftbench.tasks.base import Batch

_ODD: Final = 0x9E3779B97F4A7C15 - 2**64
_HALF: Final = 31
"""Bytes are weighted by odd numbers that look random: one that changes, or some that swap places, change the sum."""


def batches_facet(batches: Sequence[Batch]) -> Facet:
    """Return the facet of what is in the batches: names and shapes, and one hash of all contents.

    The batches must be as they should be. What is put back is what is in them now, kept on the host.
    """
    kept = _Kept(batches)
    return Facet("the batches", kept.read, kept.restore, kept.tell)


class _Kept:
    """Batches, and what was in them at first."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = batches
        self._tensors = [dict(batch) for batch in batches]
        self._contents = [
            {name: tensor.detach().to("cpu", copy=True) for name, tensor in batch.items()} for batch in batches
        ]

    def read(self) -> object:
        return _shapes(self._batches), _hash(self._batches)

    def restore(self, before: object) -> None:
        del before
        for number, name in tuple(self._changed()):
            tensor = _refilled(self._tensors[number][name], self._contents[number][name])
            self._tensors[number][name] = tensor
        for batch, tensors in zip(self._batches, self._tensors, strict=True):
            batch.clear()  # names may be gone, new, or in another order
            batch.update(tensors)

    def tell(self, before: object, after: object) -> str:
        del before, after
        numbers: dict[str, list[str]] = {}
        for number, name in self._changed():
            numbers.setdefault(name, []).append(str(number))
        return "; ".join(f"{name} of batch {', '.join(found)}" for name, found in numbers.items()) or "their names"

    def _changed(self) -> Iterator[tuple[int, str]]:
        for number, (batch, tensors) in enumerate(zip(self._batches, self._tensors, strict=True)):
            for name, tensor in tensors.items():
                content = self._contents[number][name]
                if batch.get(name) is not tensor or _like(tensor) != _like(content) or not content.equal(tensor.cpu()):
                    yield number, name


def _refilled(tensor: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
    """Return the tensor with its old content, or another one where it has another form now."""
    if _like(tensor) != _like(content):
        return content.to(tensor.device, copy=True)
    with torch.no_grad():
        return tensor.copy_(content)


def _like(tensor: torch.Tensor) -> object:
    return tensor.shape, tensor.dtype, tensor.requires_grad


def _shapes(batches: Sequence[Batch]) -> object:
    return [[(name, tensor.device, _like(tensor)) for name, tensor in batch.items()] for batch in batches]


def _hash(batches: Sequence[Batch]) -> int:
    """Return a number for the contents; what is on a device is hashed there, and one number comes from it.

    On a CPU it is their bytes that are hashed, as they lie: a tensor that was shown as an array cannot be resized.
    """
    parts = [tensor.detach().reshape(-1).view(torch.uint8) for batch in batches for tensor in batch.values()]
    if not any(part.is_cuda for part in parts):
        return hash(b"".join(ctypes.string_at(part.data_ptr(), part.numel()) for part in parts))
    return weighted_sum(torch.cat(parts))


def weighted_sum(content: torch.Tensor) -> int:
    """Return the sum of bytes (uint8, one dimension), each with a weight of its own, modulo 2**64."""
    weights = torch.arange(1, content.numel() + 1, device=content.device).mul_(_ODD)
    weights = weights.bitwise_xor_(weights >> _HALF).mul_(_ODD).bitwise_or_(1)
    return int((content * weights).sum())
