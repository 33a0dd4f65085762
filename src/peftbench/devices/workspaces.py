"""What PyTorch's allocator keeps for others, and has no public way to give back: workspaces, and pools of captures."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def clear_cublas_workspaces() -> None:
    """Free the workspaces of all streams. The next product of a stream asks for a new one."""
    import torch

    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)  # noqa: SLF001 - no public way; absent without CUDA
    if clear is not None:
        clear()


def end_allocations(device: torch.device, graph: object, pool: object) -> None:
    """Tell the allocator that a capture is over whose end failed, and that nobody needs its memory any more.

    `torch.cuda.graph` tells it only if the driver ends the capture without an error. The allocator would take it for
    one that goes on, and fail an assertion of its own when its cache is emptied next. The allocator of pinned memory
    cannot be told. It asks the graph at each allocation, so the graph, which holds nothing, stays in memory for good.

    Args:
        device: The device.
        graph: What failed to be captured.
        pool: The pool of the capture (`torch.cuda.graph_pool_handle`). One that the allocator knows to be over is left.
    """
    import torch

    private: Any = torch._C  # noqa: SLF001 - no public way
    try:
        private._cuda_endAllocateToPool(device.index, pool)  # noqa: SLF001
    except RuntimeError:  # the capture was ended, and only its work failed
        return
    private._cuda_releasePool(device.index, pool)  # noqa: SLF001
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(graph))
