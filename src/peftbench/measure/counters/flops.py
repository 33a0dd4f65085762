"""Floating-point operations of one operator call: torch's registered formulas, and those that it lacks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import torch
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

Formula = Callable[..., int]
"""Called as `formula(*args, **kwargs, out_val=output)` with the arguments of the operator."""


def _dot(left: torch.Tensor, right: torch.Tensor, **_: object) -> int:
    del right
    return 2 * left.numel()


def _mv(matrix: torch.Tensor, vector: torch.Tensor, **_: object) -> int:
    del vector
    return 2 * matrix.numel()


def _addmv(bias: torch.Tensor, matrix: torch.Tensor, vector: torch.Tensor, **_: object) -> int:
    del bias, vector
    return 2 * matrix.numel()


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: object, **__: object) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))  # type: ignore[no-untyped-call]


def _attention_backward(
    grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: object, **__: object
) -> int:
    return int(sdpa_backward_flop_count(grad.shape, query.shape, key.shape, value.shape))  # type: ignore[no-untyped-call]


_aten: Final = torch.ops.aten
_CPU_ATTENTION: Final = "_scaled_dot_product_flash_attention_for_cpu"
_OWN: Final[Mapping[Any, Formula]] = MappingProxyType(
    {
        _aten.dot: _dot,
        _aten.vdot: _dot,
        _aten.mv: _mv,
        _aten.addmv: _addmv,
        getattr(_aten, _CPU_ATTENTION): _attention,
        getattr(_aten, f"{_CPU_ATTENTION}_backward"): _attention_backward,
    }
)
"""Formulas of products that torch's registry lacks."""

_PRODUCT: Final = re.compile(
    r"aten::(\w*(mm|mv|dot|matmul|linear|convolution|attention|trilinear|cdist|cell)(_(?!out)\w+)?"
    r"|_?linalg_(?!vector_norm|cross|check_errors)\w+|_?fft_\w+|addr|ger)(\.\w+)?"
)


def formula(operator: torch._ops.OpOverload[..., Any]) -> Formula | None:
    """Return the formula of `operator`, or None if it has none (most operators move or map elements)."""
    packet = operator.overloadpacket
    found: Formula | None = flop_registry.get(packet) or _OWN.get(packet)
    return found


def is_product(name: str) -> bool:
    """Return whether the FLOPs of an operator must be counted: products, solvers and transforms."""
    return _PRODUCT.fullmatch(name) is not None
