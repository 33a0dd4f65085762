"""Floating-point operations of one operator call: torch's registered formulas, and those that it lacks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import torch
from torch.utils.flop_counter import flop_registry

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
    """Count the scores and their product with the values. The last dimensions are positions and width of a head."""
    return 2 * _pairs(query, key) * (query.shape[-1] + value.shape[-1])


def _attention_backward(
    grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: object, **__: object
) -> int:
    """Count the scores, which are computed anew, and the gradients of scores, values, queries and keys."""
    del grad
    return 2 * _pairs(query, key) * (3 * query.shape[-1] + 2 * value.shape[-1])


def _pairs(query: torch.Tensor, key: torch.Tensor) -> int:
    """Return the number of scores. A head of keys serves several heads of queries (grouped-query attention)."""
    return math.prod(query.shape[:-1]) * key.shape[-2]


_aten: Final = torch.ops.aten
_ATTENTIONS: Final = ("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu")
_OURS: Final[Mapping[Any, Formula]] = MappingProxyType(
    {getattr(_aten, f"_scaled_dot_product_{name}"): _attention for name in _ATTENTIONS}
    | {getattr(_aten, f"_scaled_dot_product_{name}_backward"): _attention_backward for name in _ATTENTIONS}
)
"""Formulas that go before torch's: those of torch 2.11 raise an error where keys have fewer heads than queries."""
_OWN: Final[Mapping[Any, Formula]] = MappingProxyType(
    {_aten.dot: _dot, _aten.vdot: _dot, _aten.mv: _mv, _aten.addmv: _addmv}
)
"""Formulas of products that torch's registry lacks."""

_PRODUCT: Final = re.compile(
    r"aten::(\w*(mm|mv|dot|matmul|linear|convolution|attention|trilinear|cdist|cell)(_(?!out)\w+)?"
    r"|_?linalg_(?!vector_norm|cross|check_errors)\w+|_?fft_\w+|addr|ger)(\.\w+)?"
)


def formula(operator: torch._ops.OpOverload[..., Any]) -> Formula | None:
    """Return the formula of `operator`, or None if it has none (most operators move or map elements)."""
    packet = operator.overloadpacket
    found: Formula | None = _OURS.get(packet) or flop_registry.get(packet) or _OWN.get(packet)
    return found


def is_product(name: str) -> bool:
    """Return whether the FLOPs of an operator must be counted: products, solvers and transforms."""
    return _PRODUCT.fullmatch(name) is not None
