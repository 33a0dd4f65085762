"""A comparison as `--peftbench-diff-json` wrote it, read back: what is shown of it, whatever else a release adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from peftbench.errors import UserError


class MovedLine(msgspec.Struct, frozen=True):
    """A number that moved."""

    name: str
    before: float
    after: float


class TimeLine(msgspec.Struct, frozen=True):
    """How a case's time moved; changes are shares."""

    change: float
    low: float
    high: float
    p: float
    verdict: str | None = None


class CaseLine(msgspec.Struct, frozen=True):
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
    """What all cases together did."""

    name: str
    verdict: str
    change: float


class OriginLine(msgspec.Struct, frozen=True):
    """Where a case became worse."""

    case: str
    before: str
    at: str


class Diff(msgspec.Struct, frozen=True):
    """A comparison."""

    schema: str
    headline: str
    cases: tuple[CaseLine, ...]
    failed: bool = False
    counts: Mapping[str, int] = msgspec.field(default_factory=dict)
    detectable: float | None = None
    notes: tuple[str, ...] = ()
    suite: tuple[SuiteLine, ...] = ()
    bisect: tuple[OriginLine, ...] = ()


def read_diff(data: Mapping[str, Any], source: str) -> Diff:
    """Read a comparison from JSON types; raises UserError if it is of another form, which says where."""
    try:
        return msgspec.convert(data, Diff)
    except msgspec.ValidationError as error:
        raise UserError(f"{source}: is no comparison that can be read: {error}") from error
