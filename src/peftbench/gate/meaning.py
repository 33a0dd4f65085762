"""What each counter means, and which rise of it fails. Comparison and reports share this table.

* A *resource* is what a user pays for. Any rise above its tolerance fails.
* A *file* counter is what a checkpoint holds beside its tensors. One more key in a configuration is no regression.
* An *interpreter* counter warns of slowdowns that a clock may not see. If the clock excludes a slowdown of the case, a
  rise is a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

from peftbench.gate.constants import Rule

Kind = Literal["resource", "file", "interpreter"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
"""Kinds of counters, the most serious first."""

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
"""Counter -> its kind. Any other counter, such as one of a user's own workload, is a resource."""

OF_PYTHON: Final = frozenset({"python_calls", "bytecodes"})
"""Counters that depend on the version of Python. They are compared under the same version only."""

TOTALS: Final[Mapping[str, tuple[str, ...]]] = {
    "checkpoint_bytes": ("checkpoint_tensor_bytes", "checkpoint_other_bytes"),
}
"""Sum -> its parts. If both sides have the parts, these are compared instead of the sum."""


def kind_of(name: str) -> Kind:
    """Return the kind of a counter."""
    return MEANINGS.get(name, "resource")


def weighs(name: str, before: float, after: float, rule: Rule, *, excluded: bool) -> bool:
    """Tell whether a counter rose by more than its kind allows.

    With `before` and `after` exchanged, it tells whether the counter fell by as much.

    Args:
        name: Name of the counter.
        before: Value on the old side.
        after: Value on the new side.
        rule: The constants.
        excluded: Whether the clock judged the case and excludes a slowdown above the limit. Interpreter counters are
            notes then.
    """
    kind = kind_of(name)
    if kind == "interpreter":
        return not excluded and after > before * (1 + rule.interpreter_tolerance)
    if kind == "file":
        return after > before * (1 + rule.file_tolerance) and after - before > rule.file_bytes
    return after > before * (1 + rule.resource_tolerance)


def without_totals(counters: Mapping[str, float]) -> Mapping[str, float]:
    """Return the counters without the sums of which all parts are present."""
    known = [total for total, parts in TOTALS.items() if total in counters and counters.keys() >= {*parts}]
    return {name: value for name, value in counters.items() if name not in known} if known else counters


def parted(counters: Mapping[str, float], newer: Mapping[str, float]) -> Mapping[str, float]:
    """Return the counters with a sum replaced by its parts, if the newer counters have parts that add up to it."""
    for total, parts in TOTALS.items():
        if total in counters and newer.keys() >= {*parts} and sum(newer[part] for part in parts) == counters[total]:
            rest = {name: value for name, value in counters.items() if name != total}
            counters = {**rest, **{part: newer[part] for part in parts}}
    return counters


def on_one_footing(
    base: Mapping[str, float], new: Mapping[str, float]
) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Return both sides' counters. Parts are summed up if the other side has only the sum."""
    return _summed_like(base, new), _summed_like(new, base)


def _summed_like(counters: Mapping[str, float], other: Mapping[str, float]) -> Mapping[str, float]:
    for total, parts in TOTALS.items():
        if total in other and total not in counters and counters.keys() >= {*parts}:
            rest = {name: value for name, value in counters.items() if name not in parts}
            counters = {**rest, total: sum(counters[part] for part in parts)}
    return counters
