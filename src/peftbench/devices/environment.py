"""The fingerprint of a run (versions and machine), and the load of the machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch

PACKAGES: Final = ("torch", "transformers", "peft", "peftbench")
"""Packages whose versions determine the counters."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of `PACKAGES`."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def fingerprint(device: torch.device, *, threads: int) -> dict[str, str]:
    """Return the properties that must be equal for absolute times to be compared."""
    return {
        **versions(),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "device": _device_name(device),
        "cuda": _cuda_version(device),
        "threads": str(threads),
    }


def noise() -> dict[str, float]:
    """Return the load of the machine: load average (1 min), and percent of time in which a task waited for a core."""
    found: dict[str, float] = {}
    if hasattr(os, "getloadavg"):
        found["load_1min"] = round(os.getloadavg()[0], 2)
    pressure = _read("/proc/pressure/cpu")
    for word in pressure.split("\n", 1)[0].split():
        if word.startswith("avg10="):
            found["cpu_pressure_percent"] = float(word.removeprefix("avg10="))
    return found


def resident_bytes() -> int:
    """Return the present resident set size of this process."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def _cpu_model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _device_name(device: torch.device) -> str:
    if device.type != "cuda":
        return device.type
    import torch

    return torch.cuda.get_device_name(device)


def _cuda_version(device: torch.device) -> str:
    import torch

    return str(torch.version.cuda) if device.type == "cuda" else "none"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
