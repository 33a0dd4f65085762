"""The memory of a warm step on a GPU, its parts, and the memory that a case leaves allocated."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from peftbench.devices.workspaces import clear_cublas_workspaces
from peftbench.measure.energy.nvml import Nvml, Reading, sampled
from peftbench.measure.trial import nothing
from peftbench.methods.quantized.storage import held_tensors
from peftbench.records.record import Metric

if TYPE_CHECKING:
    import torch

    from peftbench.measure.trial import Trial

WARM_ROUNDS: Final = 2
"""Rounds before the measured one. The first creates gradients and optimizer state; the second warms the allocator."""
BLOCK_BYTES: Final = 512
"""Unit in which PyTorch's allocator counts."""
REPLAYED: Final = "a replayed graph asks the allocator for nothing: see graph_bytes and peak_reserved_bytes"
LEAK_BYTES: Final = 2**20
"""Up to this many bytes no leak is reported: random number generators and library handles stay allocated."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Bytes of the tensors that a model and its optimizer own; storage that is shared counts once."""

    weights_bytes: int
    """Parameters and buffers, frozen ones too, and the scales of quantised ones."""
    gradients_bytes: int
    optimizer_bytes: int


@dataclass(frozen=True, slots=True)
class ResidentMemory:
    """Memory that is taken before a case is built, and stays: a template, references. It is no part of the case."""

    allocated_bytes: int = 0
    reserved_bytes: int = 0

    @classmethod
    def of(cls, device: torch.device, batches: Iterable[torch.Tensor]) -> Self:
        """Read the allocator between two cases, and leave out the batches, which each case needs itself."""
        from torch import cuda

        own = sum(-(-tensor.untyped_storage().nbytes() // BLOCK_BYTES) * BLOCK_BYTES for tensor in batches)
        return cls(max(0, cuda.memory_allocated(device) - own), max(0, cuda.memory_reserved(device) - own))


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Memory of one warm step, with no other model on the device."""

    parts: Parts
    """Each part at the mark where it was largest."""
    peak_allocated_bytes: int | None
    """Peak of the bytes in tensors; each tensor is rounded up to 512 bytes. None if a graph is replayed."""
    peak_reserved_bytes: int
    """Peak of the bytes that the caching allocator took from the driver."""
    device_used_bytes: Reading[int]
    """Bytes of all processes on the device after the step (NVML)."""
    process_bytes: Reading[int]
    """Bytes of this process after the step, with CUDA context and libraries (NVML)."""


def parts(model: torch.nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Parts:
    """Return the bytes that a model and its optimizer own at this moment, on any device."""
    parameters = list(model.parameters())
    gradients = (parameter.grad for parameter in parameters if parameter.grad is not None)
    return Parts(
        weights_bytes=_storage_bytes(held_tensors(model)),
        gradients_bytes=_storage_bytes(gradients),
        optimizer_bytes=_storage_bytes(_state_tensors(optimizer)),
    )


def round_parts(trial: Trial, number: int) -> Parts:
    """Run a round that is prepared already, and return the largest size of each part, on any device.

    Sizes are read at each mark, since a step may clear its gradients before it ends. A replayed graph has no marks, so
    its eager round is run.
    """
    seen: list[Parts] = []

    def look() -> None:
        seen.append(parts(trial.model, trial.optimizer))

    (trial.eager or trial.run)(number, look)
    look()
    return Parts(
        weights_bytes=max(part.weights_bytes for part in seen),
        gradients_bytes=max(part.gradients_bytes for part in seen),
        optimizer_bytes=max(part.optimizer_bytes for part in seen),
    )


def step_memory(trial: Trial, device: torch.device, nvml: Nvml, resident: ResidentMemory | None = None) -> StepMemory:
    """Measure a warm step on CUDA, without its preparation.

    The caller must `release` the device before. What is resident, and idle, is subtracted from the allocator's peaks,
    exactly from the allocated and up to a segment (20 MiB) from the reserved bytes. NVML's readings include it.

    Args:
        trial: The case, ready to run. Its representative round is measured.
        device: The GPU on which the trial runs.
        nvml: Reads the memory of the whole GPU and of this process.
        resident: What is on the device and not of the trial; None: nothing is.
    """
    resident = resident or ResidentMemory()
    from torch import cuda

    for _ in range(WARM_ROUNDS):
        trial.ready_after_previous(trial.representative)
        trial.run(trial.representative, nothing)
    trial.ready_after_previous(trial.representative)
    cuda.synchronize(device)
    cuda.reset_peak_memory_stats(device)
    owned = round_parts(trial, trial.representative) if trial.eager is None else None
    if owned is None:
        trial.run(trial.representative, nothing)
    cuda.synchronize(device)
    allocated_bytes = cuda.max_memory_allocated(device) - resident.allocated_bytes
    reserved_bytes = cuda.max_memory_reserved(device) - resident.reserved_bytes
    used_bytes, process_bytes = nvml.memory().used_bytes, nvml.process_bytes()
    return StepMemory(
        parts=owned or round_parts(trial, trial.representative),
        peak_allocated_bytes=allocated_bytes if trial.eager is None else None,
        peak_reserved_bytes=reserved_bytes,
        device_used_bytes=used_bytes,
        process_bytes=process_bytes,
    )


def memory_metrics(memory: StepMemory) -> dict[str, Metric]:
    """Return the metrics of a memory pass. Activations are not among them: they are the counter `saved_bytes`."""
    allocated = memory.peak_allocated_bytes
    reason = REPLAYED if allocated is None else ""
    return {
        "peak_allocated_bytes": Metric(allocated, "B", noise="sampled", reason=reason),
        "peak_reserved_bytes": Metric(memory.peak_reserved_bytes, "B", noise="sampled"),
        "device_used_bytes": sampled(memory.device_used_bytes, "B"),
        "process_bytes": sampled(memory.process_bytes, "B"),
        **parts_metrics(memory.parts),
    }


def parts_metrics(owned: Parts) -> dict[str, Metric]:
    """Return the bytes that a model and its optimizer own, as metrics of a record."""
    return {
        "weights_bytes": Metric(owned.weights_bytes, "B"),
        "gradients_bytes": Metric(owned.gradients_bytes, "B"),
        "optimizer_bytes": Metric(owned.optimizer_bytes, "B"),
    }


def release(device: torch.device) -> int:
    """Collect garbage, empty the allocator's cache, and return the bytes that are still allocated (0 on the CPU).

    Call it before a case, and after it when no reference to its model is left.
    """
    gc.collect()
    if device.type != "cuda":
        return 0
    from torch import cuda

    cuda.synchronize(device)
    clear_cublas_workspaces()  # they are no leak
    cuda.empty_cache()
    return int(cuda.memory_allocated(device))


def leak(case: str, before_bytes: int, after_bytes: int) -> str:
    """Return the warning that `case` left memory allocated, or ''. The two sizes are results of `release`."""
    left = after_bytes - before_bytes
    return f"{case} left {left / 2**20:.1f} MiB allocated on the device" if left > LEAK_BYTES else ""


def _storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Sum the storages behind `tensors`: tied weights and views of one storage count once."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages if storage.nbytes()}.values())


def _state_tensors(optimizer: torch.optim.Optimizer | None) -> list[torch.Tensor]:
    import torch

    states = optimizer.state.values() if optimizer is not None else ()
    return [value for state in states for value in state.values() if isinstance(value, torch.Tensor)]
