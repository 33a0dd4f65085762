"""What each counter means, and so what a rise of it is worth: one table, which the comparison and its words share.

A *resource* is what a user pays: a rise fails. A *file* is what a checkpoint holds beside its tensors: a key more in a
configuration is no regression. The *interpreter*'s counters warn early of what a clock may not see; where the clock has
judged the case and excludes a slowdown, they are told and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

from peftbench.gate.rule import Rule

Kind = Literal["resource", "file", "interpreter"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
"""The gravest first."""

MEANINGS: Final[Mapping[str, Kind]] = {
    "flops": "resource",
    "saved_bytes": "resource",
    "peak_live_bytes": "resource",
    "peak_bytes": "resource",
    "weights_bytes": "resource",
    "gradients_bytes": "resource",
    "optimizer_bytes": "resource",
    "trainable_body": "resource",
    "trainable_head": "resource",
    "total_parameters": "resource",
    "checkpoint_tensor_bytes": "resource",
    "checkpoint_other_bytes": "file",
    "checkpoint_bytes": "file",
    "operator_calls": "interpreter",
    "allocations": "interpreter",
    "python_calls": "interpreter",
    "bytecodes": "interpreter",
}
"""Counter -> its kind. A counter that is not named, of somebody's own workload, is a resource."""

OF_PYTHON: Final = frozenset({"python_calls", "bytecodes"})
"""Counters that another Python changes: they are not compared with those of one."""

TOTALS: Final[Mapping[str, tuple[str, ...]]] = {
    "checkpoint_bytes": ("checkpoint_tensor_bytes", "checkpoint_other_bytes"),
}
"""Sums, and their parts: where the parts are known, they are compared, and the sum is not."""


def kind_of(name: str) -> Kind:
    """Return the kind of a counter."""
    return MEANINGS.get(name, "resource")


def weighs(name: str, before: float, after: float, rule: Rule, *, excluded: bool) -> bool:
    """Tell whether a counter rose by more than its kind may; with its ends changed, whether it fell by as much.

    Args:
        name: Of the counter.
        before: What it was.
        after: What it is.
        rule: The constants.
        excluded: Whether the clock judged the case and excludes a slowdown above the limit: what the interpreter
            does more or less of is a note then.
    """
    kind = kind_of(name)
    if kind == "interpreter":
        return not excluded and after > before * (1 + rule.interpreter_tolerance)
    if kind == "file":
        return after > before * (1 + rule.file_tolerance) and after - before > rule.file_bytes
    return after > before * (1 + rule.resource_tolerance)


def without_totals(counters: Mapping[str, float]) -> Mapping[str, float]:
    """Return the counters without the sums whose parts are all there."""
    known = [total for total, parts in TOTALS.items() if total in counters and counters.keys() >= {*parts}]
    return {name: value for name, value in counters.items() if name not in known} if known else counters


def parted(counters: Mapping[str, float], newer: Mapping[str, float]) -> Mapping[str, float]:
    """Return the counters with the parts of a sum in its place, where newer ones know them and they add up to it."""
    for total, parts in TOTALS.items():
        if total in counters and newer.keys() >= {*parts} and sum(newer[part] for part in parts) == counters[total]:
            rest = {name: value for name, value in counters.items() if name != total}
            counters = {**rest, **{part: newer[part] for part in parts}}
    return counters


def on_one_footing(
    base: Mapping[str, float], new: Mapping[str, float]
) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Return both sides' counters, with the parts summed up where the other side knows the sum alone."""
    return _summed_like(base, new), _summed_like(new, base)


def _summed_like(counters: Mapping[str, float], other: Mapping[str, float]) -> Mapping[str, float]:
    for total, parts in TOTALS.items():
        if total in other and total not in counters and counters.keys() >= {*parts}:
            rest = {name: value for name, value in counters.items() if name not in parts}
            counters = {**rest, total: sum(counters[part] for part in parts)}
    return counters
