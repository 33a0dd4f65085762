"""The workspaces of cuBLAS, which PyTorch's allocator holds from the first matrix product of a stream on."""

from __future__ import annotations


def clear_cublas_workspaces() -> None:
    """Free the workspaces of all streams. The next product of a stream asks for a new one."""
    import torch

    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)  # noqa: SLF001 - no public way; absent without CUDA
    if clear is not None:
        clear()
