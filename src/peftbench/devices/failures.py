"""The meaning of an exception in a case: a row in the table, the end of the launch, or a fault to be shown."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from peftbench.errors import PeftbenchError

if TYPE_CHECKING:
    import torch

REASON_CHARACTERS: Final = 200
UNITS: Final = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}

OUT_OF_MEMORY: Final = re.compile(
    r"out of memory|can't allocate memory|Cannot allocate memory|Unable to allocate|_STATUS_ALLOC_FAILED"
)
"""Matches texts of torch's allocators, the CUDA runtime, the system, NumPy, cuBLAS, cuDNN and cuSPARSE."""
ASKED: Final = re.compile(r"(?:[Tt]ried|Unable) to allocate (\d+(?:\.\d+)?) (bytes|[KMGT]iB)")

DISK_FULL: Final = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|No usable temporary directory|file write failed"
)
"""Matches texts of the system, of Rust's libraries (safetensors), of `tempfile`, and of torch's archive writer."""

POISON: Final = re.compile(
    r"device-side assert triggered|illegal memory access|unspecified launch failure|misaligned address"
    r"|illegal instruction|hardware stack error|invalid program counter|launch timed out"
    r"|not supported on global/shared address space|uncorrectable (?:ECC|NVLink) error|context is destroyed"
)
"""Matches CUDA errors that are sticky: each later call of the process fails with the same error."""


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Kind = Literal["out-of-memory", "disk-full", "poison", "failed"]


class PoisonedError(Exception):
    """The device can run nothing more in this process."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a case has no result.

    It holds no reference to the exception, since the frames of its traceback hold tensors. Before the next case, drop
    the exception and then `release` the device.
    """

    kind: Kind
    """`poison` means that nothing can run on the device in this process any more, so the launch must end."""
    reason: str
    """One line that names the phase."""
    asked_bytes: int | None = None
    """Size of the allocation that failed, if the error states it."""


def classify(error: BaseException, phase: str = "", *, alive: Callable[[], bool] = lambda: True) -> Failure:
    """Return what an exception means for its case.

    Args:
        error: The exception.
        phase: The phase in which it was raised: `model build`, `first step`, ...
        alive: Returns whether the device still works (`context_is_alive`). It is called if the error's text is unknown.
    """
    place = f" in {phase}" if phase else ""
    if is_out_of_memory(error):
        asked = asked_bytes(str(error))
        amount = "" if asked is None else f": asked for {_amount(asked)}"
        return Failure("out-of-memory", f"out of memory{place}{amount}", asked)
    if is_disk_full(error):
        return Failure("disk-full", f"disk full{place}: {one_line(error)}; free some space, or set TMPDIR")
    if is_sticky(error) or not alive():
        return Failure("poison", f"CUDA context lost{place}: {one_line(error)}")
    return Failure("failed", f"failed{place}: {one_line(error)}")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory was short, on the device or on the host."""
    if isinstance(error, MemoryError):
        return True
    if not isinstance(error, (RuntimeError, OSError)):
        return False
    return type(error).__name__ == "OutOfMemoryError" or OUT_OF_MEMORY.search(str(error)) is not None


def is_disk_full(error: BaseException) -> bool:
    """Return whether the error, or one that caused it, says that a disk was full."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        if isinstance(link, OSError) and link.errno in _FULL:
            return True
        if not isinstance(link, PeftbenchError) and DISK_FULL.search(str(link)):
            return True
        seen.append(link)
        link = link.__cause__ or link.__context__
    return False


def is_sticky(error: BaseException) -> bool:
    """Return whether a CUDA error leaves the context unusable, as a failed assertion or an illegal access does."""
    return isinstance(error, RuntimeError) and POISON.search(str(error)) is not None


def context_is_alive(device: torch.device) -> bool:
    """Return whether the device still works. A context with a sticky error fails again. Memory may be full."""
    import torch

    if device.type != "cuda":
        return True
    try:
        torch.cuda.synchronize(device)
        torch.zeros(1, device=device)
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        return is_out_of_memory(error)
    return True


def asked_bytes(message: str) -> int | None:
    """Return the size of the failed allocation in an out-of-memory message, or None if it states none."""
    found = ASKED.search(message)
    return round(float(found[1]) * UNITS[found[2]]) if found else None


def _amount(size: int) -> str:
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size >= UNITS[unit]:
            return f"{size / UNITS[unit]:.1f} {unit}"
    return f"{size} bytes"


def one_line(error: BaseException) -> str:
    """Return type and first line of an error, shortened."""
    line = next((stripped for line in str(error).splitlines() if (stripped := line.strip())), "")
    short = line if len(line) <= REASON_CHARACTERS else line[: REASON_CHARACTERS - 3] + "..."
    return f"{type(error).__name__}: {short}" if short else type(error).__name__
