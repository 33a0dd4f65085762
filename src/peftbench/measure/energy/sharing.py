"""Who else uses a GPU while a case is measured: other processes, other users of its memory, MIG, MPS."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from peftbench.records.conditions import SHARED_GPU
from peftbench.records.record import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from peftbench.measure.energy.nvml import Nvml, Reading

FOREIGN_BYTES: Final = 2**28
"""Memory of others from which on it is reported, where the driver says what this process holds."""
UNLISTED: Final = "NVML lists no process, not even this one: a container?"
UNACCOUNTED_BYTES: Final = 2**31
"""The same where it does not: this process's CUDA context and libraries are among these bytes."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """What was seen of others on a GPU."""

    neighbours: int | None
    """Number of other compute processes; None if NVML does not tell."""
    foreign_bytes: int = 0
    """Memory that is held by others; 0 if it is little, or not known."""
    mig: bool = False
    mps_clients: int = 0
    reason: str = ""
    """Why `neighbours` is None."""

    @property
    def shared(self) -> bool:
        """Whether something else may slow this process, or be counted with it."""
        return bool(self.neighbours or self.foreign_bytes or self.mig or self.mps_clients)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings for the record, a line each."""
        found = []
        if self.neighbours:
            found.append(
                f"{SHARED_GPU}: {self.neighbours} other compute process(es) ran on it; times are slower than alone, "
                "and joules are those of all"
            )
        elif self.foreign_bytes:
            found.append(f"{SHARED_GPU}: {self.foreign_bytes / 2**30:.1f} GiB of its memory are held by others")
        if self.mig:
            found.append(f"{SHARED_GPU}: a MIG instance; others may use the rest of the GPU, its power and its clocks")
        if self.mps_clients:
            found.append(f"{SHARED_GPU}: MPS divides it among {self.mps_clients} client(s)")
        return tuple(found)

    def joined(self, other: Self) -> Self:
        """Return the larger of each number of two looks."""
        known = [number for number in (self.neighbours, other.neighbours) if number is not None]
        return type(self)(
            neighbours=max(known, default=None),
            foreign_bytes=max(self.foreign_bytes, other.foreign_bytes),
            mig=self.mig or other.mig,
            mps_clients=max(self.mps_clients, other.mps_clients),
            reason="" if known else self.reason,
        )

    def metrics(self) -> dict[str, Metric]:
        """Return the number of neighbours, and whether the GPU was shared in any way."""
        return {
            "neighbours": Metric(self.neighbours, "1", noise="sampled", reason=self.reason),
            "shared_gpu": Metric(int(self.shared), "1", noise="sampled"),
        }


def neighbours(count: int, *, beside: int) -> int:
    """Return how many of the compute processes on a device are neither this one nor one of ours.

    Args:
        count: All compute processes. In a container their ids may be others than this process knows, and this process
            is one of them.
        beside: Processes of ours that share the device by intent, as in lock-step.
    """
    return max(0, count - 1 - beside)


def sharing(
    processes: Reading[Mapping[int, int | None]],
    used_bytes: Reading[int],
    *,
    reserved_bytes: int,
    beside: int = 0,
    is_mig: bool = False,
    mps_clients: Reading[int] | None = None,
) -> Sharing:
    """Return what one look at a GPU says about others.

    Args:
        processes: The compute processes and their bytes (`Nvml.processes`).
        used_bytes: Bytes of all processes.
        reserved_bytes: Bytes that PyTorch's allocator took, a lower bound of what this process holds.
        beside: Processes of ours that share the device by intent. Their memory is not told from that of others.
        is_mig: Whether the device is a MIG instance.
        mps_clients: Number of MPS clients.
    """
    listed = processes.value
    mine = (listed or {}).get(os.getpid())
    foreign, limit = 0, UNACCOUNTED_BYTES
    if used_bytes.value is not None and not beside:
        foreign = used_bytes.value - (mine or reserved_bytes)
        limit = FOREIGN_BYTES if mine else UNACCOUNTED_BYTES
    return Sharing(
        neighbours=neighbours(len(listed), beside=beside) if listed else None,
        foreign_bytes=foreign if foreign > limit else 0,
        mig=is_mig,
        mps_clients=(mps_clients.value or 0) if mps_clients else 0,
        reason=processes.reason or ("" if listed else UNLISTED),
    )


def look_for_others(nvml: Nvml, *, reserved_bytes: int, beside: int = 0) -> Sharing:
    """Look once at a device; see `sharing`."""
    return sharing(
        nvml.processes(),
        nvml.memory().used_bytes,
        reserved_bytes=reserved_bytes,
        beside=beside,
        is_mig=nvml.is_mig,
        mps_clients=nvml.mps_clients(),
    )
