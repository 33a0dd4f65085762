"""The devices that can be measured on this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from peftbench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


def device_named(name: str) -> torch.device:
    """Return the device called `name` (`cpu`, `cuda`, `cuda:1`). Plain `cuda` is `cuda:0`.

    Raises:
        UserError: there is no such device here.
    """
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name!r}: allowed are cpu, cuda and cuda:N") from None
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", 0)
    require_device(device)
    return device


def require_device(device: torch.device) -> None:
    """Check that a device can be measured here.

    Raises:
        UserError: it is neither the CPU nor a CUDA device that this process sees, or kernel launches are blocking.
    """
    import torch

    if device.type == "cpu":
        return
    if device.type != "cuda":
        raise UserError(f"device {str(device)!r}: allowed are cpu, cuda and cuda:N")
    if torch.version.cuda is None:
        raise UserError(f"device {str(device)!r}: this PyTorch ({torch.__version__}) is built without CUDA")
    if not torch.cuda.is_available():
        raise UserError(f"device {str(device)!r}: PyTorch sees no CUDA device (driver, CUDA_VISIBLE_DEVICES)")
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        raise UserError(f"device {str(device)!r}: PyTorch sees {count} CUDA device(s): cuda:0 to cuda:{count - 1}")
    if os.environ.get("CUDA_LAUNCH_BLOCKING", "0") not in {"", "0"}:
        raise UserError("CUDA_LAUNCH_BLOCKING is set: every kernel launch would wait, and be timed waiting; unset it")


def visible_gpus() -> tuple[str, ...]:
    """Return the UUIDs of the GPUs that this process sees, in the order of their indices.

    A process that uses a MIG instance sees only that one. CUDA's UUID of it lacks the prefix `MIG-`, so the name in
    CUDA_VISIBLE_DEVICES is returned.
    """
    import torch

    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    count = torch.cuda.device_count() if torch.version.cuda is not None else 0
    if count and shown.startswith("MIG-"):
        return (shown,)
    return tuple(f"GPU-{torch.cuda.get_device_properties(index).uuid}" for index in range(count))


def choose_gpus(wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the UUIDs of the GPUs that were named, each once.

    Args:
        wanted: Words: `all`, indices as this process sees them, or UUIDs (`GPU-...`, `MIG-...`), which are not checked.

    Raises:
        UserError: there is no such GPU, or one is named twice.
    """
    found: list[str] = []
    for word in wanted:
        if word.startswith(("GPU-", "MIG-")):
            found.append(word)
            continue
        there = visible_gpus()
        if word == "all" and there:
            found += there
        elif word.isdecimal() and int(word) < len(there):
            found.append(there[int(word)])
        else:
            known = f"indices 0 to {len(there) - 1}, " if there else "no index, since this process sees no GPU; "
            raise UserError(f"--peftbench-gpus: no GPU {word!r}; there are all, {known}and UUIDs")
    if len(set(found)) < len(found):
        raise UserError(f"--peftbench-gpus={','.join(wanted)}: names a GPU twice")
    return tuple(found)
