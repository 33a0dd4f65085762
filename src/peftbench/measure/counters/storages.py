"""Bytes of tensor storages: those allocated and freed within a step, and those kept for backward."""
# ruff: noqa: SLF001 (a storage's address has no public name; torch's own memory trackers use `_cdata` too)

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils.weak import WeakIdKeyDictionary

from peftbench.methods.quantized.storage import plain_tensors


class _Entry(weakref.ref[torch.UntypedStorage]):
    """A weak reference to a storage that is followed."""

    __slots__ = ("address", "size_bytes")

    address: int
    size_bytes: int | None
    """None if the storage existed before it was followed: it was first seen as an operator's input."""


class LiveStorages:
    """Follows storages from allocation to release. A storage counts once, however many tensors view it.

    Storages that existed before (weights, optimizer state, gradients of an earlier step, inputs) are neither added
    when they are seen nor subtracted when they are freed. `peak_bytes` is the peak of the storages made since. Memory
    that a kernel allocates and frees inside one operator call is not seen.
    """

    def __init__(self) -> None:
        self.live_bytes = 0
        self.peak_bytes = 0
        self.allocations = 0
        self._entries: dict[int, _Entry] = {}

    def operator_ran(self, outputs: object, inputs: Iterable[object]) -> None:
        """Follow the storages of an operator's outputs. A storage of an input is not new."""
        given: set[int] | None = None
        for tensor in _tensors(outputs):
            for storage in _storages(tensor):
                entry = self._entries.get(storage._cdata)
                if entry is None:
                    given = _addresses(inputs) if given is None else given
                    entry = self._enter(storage, is_new=storage._cdata not in given)
                if entry.size_bytes is not None:
                    self._resize(entry, entry.size_bytes, storage.nbytes())

    def close(self) -> None:
        """Stop following all storages."""
        self._entries.clear()

    def _enter(self, storage: torch.UntypedStorage, *, is_new: bool) -> _Entry:
        entry = _Entry(storage, self._freed)
        entry.address, entry.size_bytes = storage._cdata, 0 if is_new else None
        self._entries[entry.address] = entry
        return entry

    def _resize(self, entry: _Entry, old_bytes: int, new_bytes: int) -> None:
        self.allocations += new_bytes > old_bytes
        self.live_bytes += new_bytes - old_bytes
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        entry.size_bytes = new_bytes

    def _freed(self, entry: _Entry) -> None:
        self.live_bytes -= entry.size_bytes or 0
        del self._entries[entry.address]


def saved_bytes(run: Callable[[], object], kept: Iterable[torch.Tensor]) -> int:
    """Call `run` once and return the bytes of the storages that autograd saved for backward, each counted once.

    No other probe may share this call: the hooks make autograd detach tensors that it otherwise would not detach.

    Args:
        run: A step, forward and backward.
        kept: Tensors that do not count, since they exist anyway: parameters and buffers.
    """
    met = WeakIdKeyDictionary({storage: None for tensor in kept for storage in _storages(tensor)})
    total = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal total
        for storage in _storages(tensor):
            if storage not in met:
                met[storage] = None
                total += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return total


def _tensors(value: object) -> Iterator[torch.Tensor]:
    """Yield the tensors in one argument or result of an operator, which is a tensor, a list, or something else."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            if isinstance(item, torch.Tensor):
                yield item


def _addresses(inputs: Iterable[object]) -> set[int]:
    return {s._cdata for value in inputs for tensor in _tensors(value) for s in _storages(tensor)}


def _storages(tensor: torch.Tensor) -> tuple[torch.UntypedStorage, ...]:
    if is_traceable_wrapper_subclass(tensor):  # a quantised tensor of torchao, made of others
        return tuple(storage for part in plain_tensors(tensor) for storage in _storages(part))
    try:
        return (tensor.untyped_storage(),)
    except NotImplementedError:  # a sparse tensor: its indices and values are tensors of their own
        return ()
