"""What may be compared in two snapshots.

Times need one fingerprint. Counters need the versions that determine them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from peftbench.gate.constants import Rule
from peftbench.gate.meaning import OF_PYTHON
from peftbench.gate.snapshot import CaseSnapshot, Snapshot
from peftbench.records.record import differences

COUNTER_VERSIONS: Final = ("torch", "transformers", "peft", "peftbench")
"""Entries of the fingerprint that determine the counters."""
INTERPRETER_VERSIONS: Final = (*COUNTER_VERSIONS, "python")
"""Entries of the fingerprint that determine counters of the interpreter (`OF_PYTHON`)."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Why something is not comparable, as a phrase. An empty phrase means that it is comparable."""

    settings: str
    """Why nothing is comparable."""
    time: str
    counters: str
    interpreter: str
    """Why Python calls and bytecodes are not comparable, besides `counters`."""

    def notes(self) -> tuple[str, ...]:
        """Return one sentence for each thing that is not compared."""
        if self.settings:
            return (f"nothing is compared: {self.settings}",)
        sentences = (
            ("times", "shown, not judged", self.time),
            ("counters", "not compared", self.counters),
            ("Python calls and bytecodes", "not compared", "" if self.counters else self.interpreter),
        )
        return tuple(f"{what} are {fate}: {why}" for what, fate, why in sentences if why)

    def of_counter(self, name: str) -> str:
        """Return why a counter is not comparable, or ''."""
        return self.counters or (self.interpreter if name in OF_PYTHON else "")


def scope(base: Snapshot, new: Snapshot, under_test: Iterable[str] = ()) -> Scope:
    """Return what may be compared. Entries of the fingerprint that are `under_test` may differ."""
    settings = _arrows("other settings", differences(base.settings, new.settings))
    moved = differences(base.fingerprint, new.fingerprint)
    moved = {name: pair for name, pair in moved.items() if name not in set(under_test)}

    def among(names: Iterable[str]) -> str:
        released = {name: moved[name] for name in names if name in moved and len(set(map(_release, moved[name]))) > 1}
        return settings or _arrows("other versions", released)

    return Scope(
        settings=settings,
        time=settings or _arrows("other machine or versions", moved),
        counters=among(COUNTER_VERSIONS),
        interpreter=among(INTERPRETER_VERSIONS),
    )


def other_conditions(base: CaseSnapshot, new: CaseSnapshot, rule: Rule) -> str:
    """Return why the state of the device makes the times of a case incomparable, or '' if it does not or is unknown."""
    if new.shared or base.shared:
        return (
            f"others used its GPU or its core {'in this run' if new.shared else 'in the old one'}: its record says how"
        )
    old, now = base.clock_mhz, new.clock_mhz
    if not (old and now) or abs(now - old) <= rule.max_clock_difference * old:
        return ""
    return f"SM clock {now:.0f} MHz, baseline {old:.0f} MHz: differ by more than {rule.max_clock_difference:.0%}"


def _arrows(title: str, moved: Mapping[str, tuple[Any, Any]]) -> str:
    if not moved:
        return ""
    return f"{title}: " + ", ".join(f"{name} {_word(old)} -> {_word(new)}" for name, (old, new) in moved.items())


def _release(version: object) -> str:
    """Return a version without its build (`+cpu`). A build changes times, and no counters."""
    return _word(version).partition("+")[0]


def _word(value: object) -> str:
    return "(none)" if value is None else str(value)
