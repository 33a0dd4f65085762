"""Whether a run will be on CUDA, found without torch: which cases exist is decided before torch is imported."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Final

DEVICES: Final = Path("/dev")
_NODES: Final = ("nvidia[0-9]*", "dxg")
"""Device files of NVIDIA's driver, on Linux and in the Linux of Windows."""
_BUILT: Final = re.compile(r"^cuda(?:: [^=]*)? = '", re.MULTILINE)
"""What stands in the version file of a PyTorch that is built with CUDA."""


def on_cuda(device: str) -> bool:
    """Tell whether the value of `--peftbench-device` means a CUDA device here.

    `auto` does if the driver shows a GPU, torch is built with CUDA, and CUDA_VISIBLE_DEVICES does not hide it.
    """
    if device != "auto":
        return device.startswith("cuda")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in {"", "-1"}
    return not hidden and _has_gpu() and _torch_has_cuda()


def _has_gpu() -> bool:
    return any(any(DEVICES.glob(pattern)) for pattern in _NODES)


def _torch_has_cuda() -> bool:
    found = find_spec("torch")
    if found is None or found.origin is None:
        return False
    try:
        text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return False
    return _BUILT.search(text) is not None
