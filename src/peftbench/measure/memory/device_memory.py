"""The memory of a warm step on a GPU, its parts, and the memory that a case leaves allocated."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from peftbench.measure.energy.nvml import Nvml, Reading, sampled
from peftbench.methods.quantized.storage import held_tensors
from peftbench.records.record import Metric

if TYPE_CHECKING:
    import torch

    from peftbench.measure.trial import Trial

WARM_ROUNDS: Final = 2
"""Rounds before the measured one. The first creates gradients and optimizer state; the second warms the allocator."""
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
class StepMemory:
    """Memory of one warm step, with no other model on the device."""

    parts: Parts
    """Each part at the mark where it was largest."""
    peak_allocated_bytes: int
    """Peak of the bytes in tensors; each tensor is rounded up to 512 bytes."""
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

    Sizes are read at each mark, since a step may clear its gradients before it ends.
    """
    seen: list[Parts] = []

    def look() -> None:
        seen.append(parts(trial.model, trial.optimizer))

    trial.run(number, look)
    look()
    return Parts(
        weights_bytes=max(part.weights_bytes for part in seen),
        gradients_bytes=max(part.gradients_bytes for part in seen),
        optimizer_bytes=max(part.optimizer_bytes for part in seen),
    )


def step_memory(trial: Trial, device: torch.device, nvml: Nvml) -> StepMemory:
    """Measure a warm step on CUDA, without its preparation.

    The caller must `release` the device before, and no other model may be on it.
    """
    from torch import cuda

    for _ in range(WARM_ROUNDS):
        trial.ready_after_previous(trial.representative)
        trial.run(trial.representative, lambda: None)
    trial.ready_after_previous(trial.representative)
    cuda.synchronize(device)
    cuda.reset_peak_memory_stats(device)
    owned = round_parts(trial, trial.representative)
    cuda.synchronize(device)
    return StepMemory(
        parts=owned,
        peak_allocated_bytes=cuda.max_memory_allocated(device),
        peak_reserved_bytes=cuda.max_memory_reserved(device),
        device_used_bytes=nvml.memory().used_bytes,
        process_bytes=nvml.process_bytes(),
    )


def memory_metrics(memory: StepMemory) -> dict[str, Metric]:
    """Return the metrics of a memory pass. Activations are not among them: they are the counter `saved_bytes`."""
    return {
        "peak_allocated_bytes": Metric(memory.peak_allocated_bytes, "B", noise="sampled"),
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
    _clear_cublas_workspaces()
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


def _clear_cublas_workspaces() -> None:
    """Free the workspaces of cuBLAS. The allocator holds them from the first matrix product on; they are no leak."""
    import torch

    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)  # noqa: SLF001 - no public way; absent without CUDA
    if clear is not None:
        clear()
