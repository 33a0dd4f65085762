"""The family of a kernel, which is told by its name."""

from __future__ import annotations

import re
from typing import Final, Literal, get_args

Family = Literal["matmul", "attention", "elementwise", "optimizer", "copy", "communication", "other"]
"""What a kernel is for. `elementwise` includes normalisation, reductions and lookups."""
FAMILIES: Final[tuple[Family, ...]] = get_args(Family)
COPY_CATEGORIES: Final = ("gpu_memcpy", "gpu_memset")
"""Categories of a trace that are no kernels. The device's copy engines, or its memory controller, do these."""
OPTIMIZER_PHASE: Final = "optimizer"
"""Name of the phase whose kernels all belong to the optimizer, whatever their names say."""

_NAMES: Final[tuple[tuple[Family, str], ...]] = (
    ("communication", r"nccl|nvshmem"),
    ("optimizer", r"multi_tensor_apply|fused_?adam"),
    ("attention", r"flash|fmha|attention|sdpa|mha_|_mha"),
    ("matmul", r"gemm|gemv|nvjet|cublas|cutlass|xmma|gmma|split_?k|dot_kernel|triton_tem_|conv\d?d|convolve|[wd]grad"),
    ("copy", r"copy_kernel|catarray|memcpy|memset"),
    (
        "elementwise",
        r"elementwise|norm|softmax|reduce|dropout|elu|silu|embedding|index|gather|scatter|fill|mask|triton_|arange",
    ),
)
_PATTERNS: Final = tuple((family, re.compile(names, re.IGNORECASE)) for family, names in _NAMES)
"""Family -> pattern of its names. The first pattern that matches decides: a flash kernel is built on cutlass, too."""


def family_of(name: str, *, category: str = "kernel", phase: str = "") -> Family:
    """Return the family of one interval of a trace.

    Args:
        name: Name of the kernel, mangled or not.
        category: Category of the trace: `kernel`, `gpu_memcpy` or `gpu_memset`.
        phase: Phase in which it was launched, or ''.
    """
    if category in COPY_CATEGORIES:
        return "copy"
    if phase == OPTIMIZER_PHASE and not _PATTERNS[0][1].search(name):
        return "optimizer"
    return next((family for family, pattern in _PATTERNS if pattern.search(name)), "other")
