"""What may stay on a device between cases, and where a template model lives: decided by sizes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    import torch

Place = Literal["device", "pinned", "host"]
"""Where a template lives: on the device, in pinned host memory, from which copies are fast, or in ordinary memory."""

RESIDENT_SHARE: Final = 0.1
"""Share of the device's free memory that one thing may take which stays between cases."""
PINNED_SHARE: Final = 0.25
"""Share of the host's free memory that may be pinned. The system cannot use pinned memory for anything else."""


def resides(size_bytes: float, free_bytes: float) -> bool:
    """Tell whether something may stay on a device with so much free memory."""
    return size_bytes <= RESIDENT_SHARE * free_bytes


def place_of_template(size_bytes: float, *, device_free_bytes: float, host_free_bytes: float) -> Place:
    """Return where a template lives whose copies are used on a CUDA device.

    Args:
        size_bytes: Parameters and buffers of the template.
        device_free_bytes: Memory of the device that nothing uses.
        host_free_bytes: Memory of the host that nothing uses.
    """
    if resides(size_bytes, device_free_bytes):
        return "device"
    return "pinned" if size_bytes <= PINNED_SHARE * host_free_bytes else "host"


def free_bytes(device: torch.device) -> int:
    """Return the memory of a CUDA device that no tensor of this process and no other process uses."""
    from torch import cuda

    free, _ = cuda.mem_get_info(device)
    return int(free) + int(cuda.memory_reserved(device)) - int(cuda.memory_allocated(device))
