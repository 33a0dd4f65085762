"""Every operator that one call runs: its name, its FLOPs, the storages it allocates, and the order of all."""
# ruff: noqa: SLF001 (schema, dispatch keys and composite kernels of an operator have no public names)

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from peftbench.measure.counters.flops import Formula, formula, is_product
from peftbench.measure.counters.storages import LiveStorages
from peftbench.records.record import OperatorShare

_ANNOTATIONS: Final = ("profiler::", "prim::")
"""Namespaces of calls that compute nothing: labels of the profiler, queries of a tensor's device."""
LONGEST: Final = 10
"""Number of operators whose share of the time is told."""
DIGITS: Final = 4
"""Decimal digits of a share. The clock is read once a call, in one round."""
_Operator = torch._ops.OpOverload[..., Any]
_COMPOSITE: Final = torch._C.DispatchKey.CompositeImplicitAutograd


@dataclass(frozen=True, slots=True)
class OperatorWork:
    """The operators of one call, as seen below autograd. They depend on versions and shapes, not on the machine."""

    flops: int
    uncounted: tuple[str, ...]
    """Names of products, solvers and transforms without a FLOP formula. Their work is missing in `flops`."""
    operators: Mapping[str, int]
    """Calls by name (`aten::addmm`), sorted by name."""
    operator_hash: str
    """Hash of the names in the order of the calls (16 hexadecimal digits)."""
    peak_live_bytes: int
    """Peak of the bytes in storages that were made within the call. Storages that existed before do not count."""
    allocations: int
    """Storages that were made within the call, or grew."""
    longest: tuple[OperatorShare, ...] = field(compare=False)
    """The operators in which the host spent most time. On a GPU that is the time of launching them."""


@dataclass(frozen=True, slots=True)
class _Traits:
    name: str
    is_composite: bool
    is_counted: bool
    may_make: bool
    """Whether an output may have a new storage, or one that grew."""
    is_source: bool
    """Whether the storage of the input is new as well, as that of `lift_fresh`, which makes a tensor from data."""
    formula: Formula | None


class _OperatorMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, storages: LiveStorages) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []
        self.flops = 0
        self.spent_ns: Counter[str] = Counter()
        self._storages = storages
        self.traits: dict[_Operator, _Traits] = {}

    def __torch_dispatch__(
        self, func: _Operator, types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        del types
        kwargs = kwargs or {}
        traits = self.traits.get(func)
        if traits is None:
            traits = self.traits[func] = _learn(func)
        if traits.is_composite:  # seen in inference mode only: elsewhere autograd has decomposed it already
            with self:
                return func._op_dk(_COMPOSITE, *args, **kwargs)
        start_ns = perf_counter_ns()
        output = func(*args, **kwargs)
        if traits.is_counted:
            self.spent_ns[traits.name] += perf_counter_ns() - start_ns
            self.names.append(traits.name)
        if traits.formula is not None:
            self.flops += traits.formula(*args, **kwargs, out_val=output)
        if traits.may_make:
            self._storages.operator_ran(output, () if traits.is_source else (*args, *kwargs.values()))
        return output


def observe(run: Callable[[], object]) -> OperatorWork:
    """Call `run` once and return its operators: those of forward, backward, optimizer, and all others."""
    storages = LiveStorages()
    mode = _OperatorMode(storages)
    try:
        with mode:
            run()
    finally:
        storages.close()
    calls = Counter(mode.names)
    return OperatorWork(
        flops=mode.flops,
        uncounted=tuple(
            sorted(
                t.name for t in mode.traits.values() if t.formula is None and not t.is_composite and is_product(t.name)
            )
        ),
        operators={name: calls[name] for name in sorted(calls)},
        operator_hash=hashlib.sha256("\n".join(mode.names).encode()).hexdigest()[:16],
        peak_live_bytes=storages.peak_bytes,
        allocations=storages.allocations,
        longest=longest(mode.spent_ns, calls),
    )


def longest(spent_ns: Counter[str], calls: Mapping[str, int], most: int = LONGEST) -> tuple[OperatorShare, ...]:
    """Return the operators in which most time was spent, with their shares of the time of all."""
    total = max(spent_ns.total(), 1)
    return tuple(OperatorShare(name, calls[name], round(ns / total, DIGITS)) for name, ns in spent_ns.most_common(most))


def _learn(func: _Operator) -> _Traits:
    name: str = func.name()  # type: ignore[no-untyped-call]
    found = formula(func)
    returns = func._schema.returns
    grows = "resize" in name or name.partition(".")[2].endswith("out")
    return _Traits(
        name=name,
        is_composite=found is None and torch._C._dispatch_has_kernel_for_dispatch_key(name, _COMPOSITE),
        is_counted=not name.startswith(_ANNOTATIONS),
        may_make=grows or name == "aten::lift_fresh" or any(value.alias_info is None for value in returns),
        is_source=name == "aten::lift_fresh",
        formula=found,
    )
