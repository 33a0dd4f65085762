"""Reads the JSON of a comparison, as `--peftbench-diff-json` writes it. Fields that are not shown are ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from peftbench.errors import UserError
from peftbench.gate.constants import Rule


class MovedLine(msgspec.Struct, frozen=True):
    """A counter, operator or module that moved."""

    name: str
    before: float
    after: float


class TimeLine(msgspec.Struct, frozen=True):
    """The change of a case's time. Changes are shares (0.05 is 5 % slower)."""

    change: float
    low: float
    high: float
    p: float
    verdict: str | None = None


class DiffCase(msgspec.Struct, frozen=True):
    """A case."""

    id: str
    verdict: str
    cause: str = ""
    reason: str = ""
    time: TimeLine | None = None
    base_s: float | None = None
    new_s: float | None = None
    counters: tuple[MovedLine, ...] = ()
    operators: tuple[MovedLine, ...] = ()
    modules: tuple[MovedLine, ...] = ()


class SuiteLine(msgspec.Struct, frozen=True):
    """The verdict of all cases together, or of a reference."""

    name: str
    verdict: str
    change: float


class OriginLine(msgspec.Struct, frozen=True):
    """The state at which a case became worse."""

    case: str
    before: str
    at: str


class RuleLine(msgspec.Struct, frozen=True):
    """The constants of the gate's rule that a report needs."""

    confidence: float


class Diff(msgspec.Struct, frozen=True):
    """A comparison."""

    schema: str
    headline: str
    cases: tuple[DiffCase, ...]
    failed: bool = False
    counts: Mapping[str, int] = msgspec.field(default_factory=dict)
    detectable: float | None = None
    notes: tuple[str, ...] = ()
    suite: tuple[SuiteLine, ...] = ()
    bisect: tuple[OriginLine, ...] = ()
    rule: RuleLine | None = None
    """None if nothing was compared."""

    @property
    def confidence(self) -> float:
        """One-sided confidence of each bound of a change."""
        return self.rule.confidence if self.rule else Rule.confidence


def read_diff(data: Mapping[str, Any], source: str) -> Diff:
    """Return the comparison in JSON data; raises UserError, which says where the data have another form."""
    try:
        return msgspec.convert(data, Diff)
    except msgspec.ValidationError as error:
        raise UserError(f"{source}: is no comparison that can be read: {error}") from error
